"""Find ASGI apps, and modules and classes that fetch without an explicit call.

A parsed module goes in; candidates for server checks and network checks come out.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pytest_streamperf._cli.init.construction import construction_of, needs_loop
from pytest_streamperf._cli.init.proposal import Candidate, imported_name
from pytest_streamperf._cli.init.source import (
    Member,
    Source,
    assignments_in,
    call_nodes,
    last_name,
    own_nodes,
)

# Not measured: above MINIMUM_SCORE of consumers.py, because an app or a client library is explicit.
_SCORE = 4
_APP_CLASSES = {"FastAPI", "Starlette"}
_STREAMING_RESPONSES = ("StreamingResponse", "EventSourceResponse")

_CLIENT_METHODS = {
    "get",
    "post",
    "put",
    "patch",
    "delete",
    "head",
    "options",
    "request",
    "stream",
    "send",
}
_CLIENT_METHODS |= {"connect", "sendto", "getresponse"}
_CLIENTS = {"httpx", "requests", "urllib3", "aiohttp"}
_CLIENTS |= {"httpx.Client", "httpx.AsyncClient", "requests.Session", "aiohttp.ClientSession"}
_CLIENTS |= {"urllib3.PoolManager", "socket.socket", "http.client.HTTPSConnection"}
_FETCH_FUNCTIONS = {
    "urllib.request.urlopen",
    "urllib.request.urlretrieve",
    "socket.create_connection",
    "socket.getaddrinfo",
    "huggingface_hub.snapshot_download",
    "huggingface_hub.hf_hub_download",
}
# An environment variable that the code reads, or a module that it looks up in sys.modules.
_GATE_NAMES = re.compile(
    r"""(?:environ(?:\.get)?[(\[]|getenv\(|^(?=.*(?:environ|modules)$))'(\w+)'"""
)
# Functions that call their argument, at once or later.
_CALLERS = {"Thread", "Timer", "Process", "submit", "create_task", "run", "to_thread", "map"}


# -- apps


class _Route(NamedTuple):
    """A GET route; a `bare` one answers without arguments, credentials or a body."""

    path: str
    bare: bool
    streams: bool


_NO_ROUTE = _Route("/", bare=False, streams=False)


def find_apps(source: Source) -> Iterator[Candidate]:
    """Yield a server check for each app at module level.

    >>> from pytest_streamperf._cli.init.source import read
    >>> [candidate.doubts for candidate in find_apps(read("a.py", b"app = FastAPI()"))]
    [['no GET route without arguments was found: pass a request that succeeds']]
    """
    best = max(_routes(source), key=lambda route: (route.bare, route.streams), default=_NO_ROUTE)
    for target, value in assignments_in(own_nodes(source.tree)):
        if not isinstance(target, ast.Name) or last_name(value) not in _APP_CLASSES:
            continue
        certain = best.bare and "dependencies" not in ast.unparse(value)
        doubt = "no GET route without arguments was found: pass a request that succeeds"
        request = f'Request("GET", "{best.path if certain else "/"}")'
        check = f"assert_survives({imported_name(target.id)}, requests=[{request}], crowd=50)"
        yield Candidate(
            check="server",
            name=target.id,
            line=target.lineno,
            score=_SCORE,
            why="an ASGI app" + " that streams" * best.streams,
            body=[check],
            doubts=[] if certain else [doubt],
            uses=target.id,
        )


def _routes(source: Source) -> Iterator[_Route]:
    """Yield the GET routes: functions with `@app.get(...)`, and those in `Route(...)`."""
    functions = {member.name: member for member in source.members}
    declared = [(member, node) for member in source.members for node in member.node.decorator_list]
    for call in call_nodes(ast.walk(source.tree)):
        match call:
            case ast.Call(ast.Name("Route"), [_, ast.Name(name)]) if name in functions:
                declared.append((functions[name], call))
    for member, declaration in declared:
        match declaration:
            case ast.Call(
                ast.Attribute(attr="get") | ast.Name("Route"), [ast.Constant(str(path)), *_]
            ):
                body = "\n".join(map(ast.unparse, member.node.body))
                bare = not declaration.keywords and _is_bare(member, body)
                bare = bare and path.isprintable() and not {*path} & {"{", '"'}
                yield _Route(path, bare, any(name in body for name in _STREAMING_RESPONSES))


def _is_bare(member: Member, body: str) -> bool:
    """Return whether the handler needs no argument, `Depends(...)` or part of the request."""
    takes = [parameter for parameter in member.parameters if parameter.name != "request"]
    needs_value = any(p.default is None or "(" in ast.unparse(p.default) for p in takes)
    has_call = any("(" in parameter.annotation for parameter in takes)
    return not needs_value and "request" not in body and not has_call


# -- fetches


def find_fetches(source: Source, module: str) -> Iterator[Candidate]:
    r"""Yield a network check for a fetch at import, and for each constructor that fetches.

    >>> from pytest_streamperf._cli.init.source import read
    >>> source = read("a.py", b"import httpx\nhttpx.get('//a')")
    >>> [candidate.why for candidate in find_fetches(source, "a")]
    ['attempts network access when it is imported']
    """
    for owner in source.classes.values():
        init = source.methods(owner).get("__init__")
        gates = _gates(source, init.node, owner) if init else None
        if init and gates is not None:
            yield _constructor_check(source, owner, init, gates, module)
    gates = _gates(source, source.tree, None)
    if gates is not None:
        doubts = [f"pass rows= with the production value of {' and '.join(sorted(gates))}"]
        doubts = doubts if gates and not _for_tests(gates) else []
        yield _network_check(
            "", 1, "it is imported", f'assert_fetch_is_gated("import {module}")', doubts
        )


def _constructor_check(
    source: Source, owner: ast.ClassDef, init: Member, gates: set[str], module: str
) -> Candidate:
    """Return a check of the gate of a constructor, or without a gate, that it does not fetch."""
    line, when = init.node.lineno, f"{owner.name} is constructed"
    loops = ["the constructor needs a running event loop: call it in one"] * needs_loop(init.node)
    if _for_tests(gates) and not init.required and not loops:
        return _network_check(
            owner.name, line, when, f'assert_fetch_is_gated("{module}:{owner.name}")', []
        )
    construction = construction_of(source, owner)
    check = f"{imported_name(owner.name)}({construction.arguments({})})"
    return _network_check(owner.name, line, when, check, [*construction.doubts, *loops])._replace(
        mark="@pytest.mark.streamperf(background_fetch=False, block_network=True)", uses=owner.name
    )


def _for_tests(gates: set[str]) -> bool:
    return any("PYTEST" in gate.upper() for gate in gates)


def _network_check(name: str, line: int, when: str, check: str, doubts: Sequence[str]) -> Candidate:
    return Candidate(
        check="network",
        name=name,
        line=line,
        score=_SCORE,
        why=f"attempts network access when {when}",
        body=[check],
        doubts=doubts,
        budgets={"background_fetch": "false"},
    )


def _gates(source: Source, begin: ast.AST, owner: ast.ClassDef | None) -> set[str] | None:
    """Return the environment variables read on the way to a fetch, or None without a fetch.

    The search starts at `begin` and follows calls within the module.
    """
    functions = {m.name: m.node for m in source.members if m.owner is None}
    methods = source.methods(owner) if owner else {}
    functions |= {f"{it}.{name}": methods[name].node for it in ("self", "cls") for name in methods}
    clients = {
        ast.unparse(target): source.dotted(value.func)
        for target, value in assignments_in(ast.walk(source.tree))
        if isinstance(value, ast.Call) and source.dotted(value.func) in _CLIENTS
    }
    pending, visited, gates, fetched = [begin], [begin], set[str](), False
    while pending:
        for node in own_nodes(pending.pop()):
            if isinstance(node, ast.Call | ast.Subscript | ast.Compare):
                gates |= {*_GATE_NAMES.findall(ast.unparse(node))}
            if not isinstance(node, ast.Call):
                continue
            fetched |= _is_fetch(source, node, clients)
            passed = [*node.args, *(keyword.value for keyword in node.keywords)]
            for target in [node.func, *(passed if last_name(node.func) in _CALLERS else [])]:
                function = functions.get(ast.unparse(target))
                if function is not None and function not in visited:
                    visited.append(function)
                    pending.append(function)
    return gates if fetched else None


def _is_fetch(source: Source, call: ast.Call, clients: Mapping[str, str]) -> bool:
    match call.func:
        case ast.Attribute(value=ast.Call(func=client) | client, attr=method):
            library = clients.get(ast.unparse(client), source.dotted(client))
            if library in _CLIENTS and method in _CLIENT_METHODS:
                return True
    return source.dotted(call.func) in _FETCH_FUNCTIONS

"""Who deals with the world outside: ASGI apps, and what fetches without being asked to."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pytest_streamperf._cli.init.making import making, needs_loop
from pytest_streamperf._cli.init.proposal import Candidate, spoken
from pytest_streamperf._cli.init.source import Member, Source, assigned, calls, last_name, own

_LIKELY = 4
_APPS = {"FastAPI", "Starlette"}
_STREAMS = ("StreamingResponse", "EventSourceResponse")

_VERBS = {"get", "post", "put", "patch", "delete", "head", "options", "request", "stream", "send"}
_VERBS |= {"connect", "sendto", "getresponse"}
_LIBRARIES = {"httpx", "requests", "urllib3", "aiohttp"}
_LIBRARIES |= {"httpx.Client", "httpx.AsyncClient", "requests.Session", "aiohttp.ClientSession"}
_LIBRARIES |= {"urllib3.PoolManager", "socket.socket", "http.client.HTTPSConnection"}
_FETCHES = {
    "urllib.request.urlopen",
    "urllib.request.urlretrieve",
    "socket.create_connection",
    "socket.getaddrinfo",
    "huggingface_hub.snapshot_download",
    "huggingface_hub.hf_hub_download",
}
# A variable of the environment that is asked for, or a module that is loaded.
_GATES = re.compile(r"""(?:environ(?:\.get)?[(\[]|getenv\(|^(?=.*(?:environ|modules)$))'(\w+)'""")
# What calls what it is given, now or soon.
_CALLERS = {"Thread", "Timer", "Process", "submit", "create_task", "run", "to_thread", "map"}


# -- apps


class _Route(NamedTuple):
    """A path that is asked for by GET; `bare` ones need no arguments, credentials or more."""

    path: str
    bare: bool
    streams: bool


_NO_ROUTE = _Route("/", bare=False, streams=False)


def apps(source: Source) -> Iterator[Candidate]:
    """Find apps at module level: they survive what clients do.

    >>> from pytest_streamperf._cli.init.source import read
    >>> [each.doubts for each in apps(read("a.py", b"app = FastAPI()"))]
    [['no request was found that is answered as it stands: put in one that is']]
    """
    best = max(_routes(source), key=lambda each: (each.bare, each.streams), default=_NO_ROUTE)
    for target, value in assigned(own(source.tree)):
        if not isinstance(target, ast.Name) or last_name(value) not in _APPS:
            continue
        sure = best.bare and "dependencies" not in ast.unparse(value)
        ask = "no request was found that is answered as it stands: put in one that is"
        request = f'Request("GET", "{best.path if sure else "/"}")'
        check = f"assert_survives({spoken(target.id)}, requests=[{request}], crowd=50)"
        yield Candidate(
            check="server",
            name=target.id,
            line=target.lineno,
            score=_LIKELY,
            why="an ASGI app" + " that streams" * best.streams,
            body=[check],
            doubts=[] if sure else [ask],
            uses=target.id,
        )


def _routes(source: Source) -> Iterator[_Route]:
    """What is asked for by GET: of functions below `@app.get(...)`, or in `Route(...)`."""
    functions = {each.name: each for each in source.members}
    asked = [(each, made) for each in source.members for made in each.node.decorator_list]
    for call in calls(ast.walk(source.tree)):
        match call:
            case ast.Call(ast.Name("Route"), [_, ast.Name(name)]) if name in functions:
                asked.append((functions[name], call))
    for member, made in asked:
        match made:
            case ast.Call(
                ast.Attribute(attr="get") | ast.Name("Route"), [ast.Constant(str(path)), *_]
            ):
                body = "\n".join(map(ast.unparse, member.node.body))
                bare = not made.keywords and _is_bare(member, body)
                bare = bare and path.isprintable() and not {*path} & {"{", '"'}
                yield _Route(path, bare, any(each in body for each in _STREAMS))


def _is_bare(member: Member, body: str) -> bool:
    """Whether it asks for nothing, of the request or by `Depends(...)`."""
    takes = [each for each in member.parameters if each.name != "request"]
    asks = any(each.default is None or "(" in ast.unparse(each.default) for each in takes)
    return not asks and "request" not in body and not any("(" in each.annotation for each in takes)


# -- fetches


def fetches(source: Source, module: str) -> Iterator[Candidate]:
    r"""Find what fetches when it is imported, and the classes that fetch when one is made.

    >>> from pytest_streamperf._cli.init.source import read
    >>> [each.why for each in fetches(read("a.py", b"import httpx\nhttpx.get('//a')"), "a")]
    ['reaches for the network when it is imported']
    """
    for owner in source.classes.values():
        init = source.methods(owner).get("__init__")
        gates = _gates(source, init.node, owner) if init else None
        if init and gates is not None:
            yield _made(source, owner, init, gates, module)
    gates = _gates(source, source.tree, None)
    if gates is not None:
        doubts = [f"say with rows= what {' and '.join(sorted(gates))} is in production"]
        doubts = doubts if gates and not _for_tests(gates) else []
        yield _silent("", 1, "it is imported", f'assert_fetch_is_gated("import {module}")', doubts)


def _made(
    source: Source, owner: ast.ClassDef, init: Member, gates: set[str], module: str
) -> Candidate:
    """Have the gate of a constructor proven, if it has one for tests; else it is not to fetch."""
    line, when = init.node.lineno, f"{owner.name} is made"
    loops = ["an event loop has to run where it is made: see to that"] * needs_loop(init.node)
    if _for_tests(gates) and not init.required and not loops:
        return _silent(
            owner.name, line, when, f'assert_fetch_is_gated("{module}:{owner.name}")', []
        )
    made = making(source, owner)
    check = f"{spoken(owner.name)}({made.arguments({})})"
    return _silent(owner.name, line, when, check, [*made.doubts, *loops])._replace(
        mark="@pytest.mark.streamperf(background_fetch=False, block_network=True)", uses=owner.name
    )


def _for_tests(gates: set[str]) -> bool:
    return any("PYTEST" in each.upper() for each in gates)


def _silent(name: str, line: int, when: str, check: str, doubts: Sequence[str]) -> Candidate:
    return Candidate(
        check="network",
        name=name,
        line=line,
        score=_LIKELY,
        why=f"reaches for the network when {when}",
        body=[check],
        doubts=doubts,
        budgets={"background_fetch": "false"},
    )


def _gates(source: Source, begin: ast.AST, owner: ast.ClassDef | None) -> set[str] | None:
    """The variables of the environment that are asked for on the way to a fetch; None if none is.

    From where it begins, calls are followed within the module.
    """
    functions = {each.name: each.node for each in source.members if each.owner is None}
    methods = source.methods(owner) if owner else {}
    functions |= {f"{it}.{name}": methods[name].node for it in ("self", "cls") for name in methods}
    clients = {
        ast.unparse(target): source.dotted(value.func)
        for target, value in assigned(ast.walk(source.tree))
        if isinstance(value, ast.Call) and source.dotted(value.func) in _LIBRARIES
    }
    left, seen, gates, fetched = [begin], [begin], set[str](), False
    while left:
        for node in own(left.pop()):
            if isinstance(node, ast.Call | ast.Subscript | ast.Compare):
                gates |= {*_GATES.findall(ast.unparse(node))}
            if not isinstance(node, ast.Call):
                continue
            fetched |= _fetches(source, node, clients)
            handed = [*node.args, *(each.value for each in node.keywords)]
            for each in [node.func, *(handed if last_name(node.func) in _CALLERS else [])]:
                called = functions.get(ast.unparse(each))
                if called is not None and called not in seen:
                    seen.append(called)
                    left.append(called)
    return gates if fetched else None


def _fetches(source: Source, call: ast.Call, clients: Mapping[str, str]) -> bool:
    match call.func:
        case ast.Attribute(value=ast.Call(func=made) | made, attr=verb):
            library = clients.get(ast.unparse(made), source.dotted(made))
            if library in _LIBRARIES and verb in _VERBS:
                return True
    return source.dotted(call.func) in _FETCHES

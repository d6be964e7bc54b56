"""Who deals with the world outside: ASGI apps, and what fetches without being asked to."""

import ast
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pytest_streamperf.onboarding.making import making
from pytest_streamperf.onboarding.proposal import Candidate, spoken, test_of
from pytest_streamperf.onboarding.source import (
    Member,
    Source,
    assigned,
    calls,
    last_name,
    own,
    statements,
)

_LIKELY = 4
_APPS = {"FastAPI", "Starlette"}
_STREAMS = ("StreamingResponse", "EventSourceResponse")

_VERBS = {"get", "post", "put", "patch", "delete", "head", "options", "request", "stream", "send"}
_VERBS |= {"connect", "sendto", "getresponse"}
_LIBRARIES = {"httpx", "requests", "urllib3", "aiohttp"}
_FETCHES = {
    "urllib.request.urlopen",
    "urllib.request.urlretrieve",
    "socket.create_connection",
    "socket.getaddrinfo",
    "huggingface_hub.snapshot_download",
    "huggingface_hub.hf_hub_download",
}
_CLIENTS = {"httpx.Client", "httpx.AsyncClient", "requests.Session", "aiohttp.ClientSession"}
_CLIENTS |= {"urllib3.PoolManager", "socket.socket", "http.client.HTTPSConnection"}
_ROOTS = {each.split(".")[0] for each in (*_LIBRARIES, *_FETCHES, *_CLIENTS)}
# What calls what it is given, now or soon.
_CALLERS = {"Thread", "Timer", "Process", "submit", "create_task", "run", "to_thread", "map"}


# -- apps


class _Route(NamedTuple):
    path: str
    bare: bool
    streams: bool


def apps(source: Source) -> Iterator[Candidate]:
    """Find apps at module level: they survive what clients do.

    >>> from pytest_streamperf.onboarding.source import read
    >>> [each.doubts for each in apps(read("a.py", b"app = FastAPI()"))]
    [['no request was found that is answered as it stands: put in one that is']]
    """
    routes = [*_routes(source)]
    best = max(routes, key=lambda each: (each.bare, each.streams), default=None)
    for target, value in assigned(statements(source.tree.body)):
        if not isinstance(target, ast.Name) or last_name(value) not in _APPS:
            continue
        sure = best is not None and best.bare and "dependencies" not in ast.unparse(value)
        ask = "no request was found that is answered as it stands: put in one that is"
        doubts = [] if sure else [ask]
        request = f'Request("GET", "{best.path}")' if best and sure else 'Request("GET", "/")'
        check = f"assert_survives({spoken(target.id)}, requests=[{request}], read=None, crowd=50)"
        yield Candidate(
            check="service",
            name=target.id,
            line=target.lineno,
            score=_LIKELY,
            why="an ASGI app" + " that streams" * bool(best and best.streams),
            test=test_of(target.id, "survives", [], [check], doubts=doubts),
            doubts=doubts,
            uses=target.id,
            imports=["from pytest_streamperf.service import Request, assert_survives"],
        )


def _routes(source: Source) -> Iterator[_Route]:
    """What is asked for by GET, and if it is answered without arguments, credentials or more."""
    functions = {each.name: each for each in source.members}
    for member in source.members:
        for each in member.node.decorator_list:
            match each:
                case ast.Call(
                    func=ast.Attribute(attr="get"), args=[ast.Constant(value=str() as path)]
                ):
                    yield _route(member, path, plain=not each.keywords)
    for call in calls(ast.walk(source.tree)):
        match call:
            case ast.Call(
                func=ast.Name(id="Route"),
                args=[ast.Constant(value=str() as path), ast.Name(id=name)],
            ) if name in functions:
                yield _route(functions[name], path, plain=not call.keywords)


def _route(member: Member, path: str, *, plain: bool) -> _Route:
    body = "\n".join(map(ast.unparse, member.node.body))
    takes = [each for each in member.parameters if each.name != "request"]
    asks = any(each.default is None or "(" in ast.unparse(each.default) for each in takes)
    plain = plain and not asks and "{" not in path and path.isprintable() and '"' not in path
    reads = "request" in body or "(" in str([each.annotation for each in takes])
    return _Route(path, plain and not reads, any(each in body for each in _STREAMS))


# -- fetches


class _Reached(NamedTuple):
    """Whether a fetch is on the way, and which variables of the environment are asked for."""

    fetches: bool
    gates: frozenset[str]


def fetches(source: Source, module: str) -> Iterator[Candidate]:
    r"""Find what fetches when it is imported, and the classes that fetch when one is made.

    >>> from pytest_streamperf.onboarding.source import read
    >>> [each.why for each in fetches(read("a.py", b"import httpx\\nhttpx.get('//a')"), "a")]
    ['reaches for the network when it is imported']
    """
    if not _ROOTS & {each.split(".")[0] for each in source.imported.values()}:
        return
    defines = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    run = [each for each in statements(source.tree.body) if not isinstance(each, defines)]
    for owner in source.classes.values():
        init = source.methods(owner).get("__init__")
        reached = (
            _reached(source, [init.node], owner)
            if init
            else _Reached(fetches=False, gates=frozenset())
        )
        if init is not None and reached.fetches:
            yield _made(source, owner, init, reached, module)
    reached = _reached(source, [ast.Module([*map(_head, run)], [])], None)
    if reached.fetches:
        yield _imported(reached, module)


def _head(statement: ast.stmt) -> ast.stmt:
    """A statement without those in it, which come by themselves."""
    parts = ast.iter_child_nodes(statement)
    within = [getattr(each, "context_expr", each) for each in parts]
    return ast.Expr(ast.Tuple([each for each in within if isinstance(each, ast.expr)], ast.Load()))


def _reached(source: Source, begin: Sequence[ast.AST], owner: ast.ClassDef | None) -> _Reached:
    """What is reached from here, by calls within the module."""
    functions = {each.name: each for each in source.members if each.owner is None}
    methods = source.methods(owner) if owner else {}
    kept = assigned(ast.walk(source.tree))
    clients = {
        ast.unparse(target)
        for target, value in kept
        if isinstance(value, ast.Call) and source.dotted(value.func) in _CLIENTS
    }
    left, seen, gates, fetched = [*begin], set[int](), set[str](), False
    while left:
        for node in own(left.pop()):
            gates |= {*_gates(source, node)}
            if not isinstance(node, ast.Call):
                continue
            fetched |= _fetches(source, node, clients)
            handed = [*node.args, *(each.value for each in node.keywords)]
            for each in [node.func, *(handed if last_name(node.func) in _CALLERS else [])]:
                match each:
                    case ast.Name(id=name):
                        member = functions.get(name)
                    case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
                        member = methods.get(name)
                    case _:
                        continue
                if member is not None and id(member.node) not in seen:
                    seen.add(id(member.node))
                    left.append(member.node)
    return _Reached(fetched, frozenset(gates))


def _fetches(source: Source, call: ast.Call, clients: set[str]) -> bool:
    library, _, verb = source.dotted(call.func).rpartition(".")
    if f"{library}.{verb}" in _FETCHES or (library in _LIBRARIES and verb in _VERBS):
        return True
    match call.func:
        case ast.Attribute(value=ast.Call(func=made), attr=name):
            return name in _VERBS and source.dotted(made) in _CLIENTS
        case ast.Attribute(value=client, attr=name):
            return name in _VERBS and ast.unparse(client) in clients
    return False


def _gates(source: Source, node: ast.AST) -> Iterator[str]:
    """Variables of the environment that are asked for, and what stands for being under test."""
    match node:
        case ast.Call(func=func, args=[ast.Constant(value=str() as name), *_]):
            if source.dotted(func) in {"os.environ.get", "os.getenv"}:
                yield name
        case ast.Subscript(value=value, slice=ast.Constant(value=str() as name)):
            if source.dotted(value) == "os.environ":
                yield name
        case ast.Compare(left=ast.Constant(value=str() as name), comparators=[where]):
            if source.dotted(where) in {"os.environ", "sys.modules"}:
                yield "PYTEST" if name == "pytest" else name


def _imported(reached: _Reached, module: str) -> Candidate:
    """Have the gate of an import proven."""
    gates = sorted(reached.gates)
    for_tests = any("PYTEST" in each for each in gates)
    doubts = [f"say with rows= what {' and '.join(gates)} is in production"]
    doubts = doubts if gates and not for_tests else []
    return _silent(module, 1, "it is imported", f'prove_gate("import {module}")', doubts)._replace(
        name="", imports=["from pytest_streamperf import prove_gate"]
    )


def _made(
    source: Source, owner: ast.ClassDef, init: Member, reached: _Reached, module: str
) -> Candidate:
    """Have the gate of a constructor proven, if it has one for tests; else it is not to fetch."""
    made = making(source, owner)
    for_tests = any("PYTEST" in each for each in reached.gates)
    given = made.arguments({})
    line, when = init.node.lineno, f"{owner.name} is made"
    if for_tests and not made.doubts and not given:
        check = f'prove_gate("{module}:{owner.name}")'
        imports = ["from pytest_streamperf import prove_gate"]
        return _silent(owner.name, line, when, check, [])._replace(imports=imports)
    check = f"{spoken(owner.name)}({given})"
    silent = _silent(owner.name, line, when, check, made.doubts)
    marked = f"@pytest.mark.streamperf(background_fetch=False, block_network=True)\n{silent.test}"
    return silent._replace(test=marked, uses=owner.name, imports=["import pytest"])


def _silent(name: str, line: int, when: str, check: str, doubts: Sequence[str]) -> Candidate:
    return Candidate(
        check="network",
        name=name,
        line=line,
        score=_LIKELY,
        why=f"reaches for the network when {when}",
        test=test_of(name, "fetches_nothing_under_test", [], [check], doubts=doubts),
        doubts=doubts,
        budgets={"background_fetch": "false"},
    )

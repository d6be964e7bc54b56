"""Who reaches for the network without being asked to: when imported, or when an object is made."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pytest_streamperf.onboarding.candidate import Candidate, spoken, test_line
from pytest_streamperf.onboarding.consumers import ENOUGH
from pytest_streamperf.onboarding.making import Making, making
from pytest_streamperf.onboarding.source import Member, Source, last_name, own, statements
from pytest_streamperf.onboarding.templates import Call, todo

_VERBS = ("get", "post", "put", "patch", "delete", "head", "options", "request", "stream", "send")
_FETCHES = {f"{library}.{verb}" for library in ("httpx", "requests", "urllib3") for verb in _VERBS}
_FETCHES |= {
    "urllib.request.urlopen",
    "urllib.request.urlretrieve",
    "socket.create_connection",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "websockets.connect",
    "websockets.sync.client.connect",
    "asyncio.open_connection",
    "aiohttp.request",
    "huggingface_hub.snapshot_download",
    "huggingface_hub.hf_hub_download",
}
_CLIENTS = {"httpx.Client", "httpx.AsyncClient", "requests.Session", "requests.session"}
_CLIENTS |= {"aiohttp.ClientSession", "urllib3.PoolManager", "socket.socket"}
_CLIENTS |= {"http.client.HTTPConnection", "http.client.HTTPSConnection"}
_CLIENT_CALLS = {*_VERBS, "connect", "sendto", "getresponse"}
# What calls what it is given, now or soon.
_CALLERS = {"Thread", "Timer", "Process", "submit", "create_task", "ensure_future", "run", "map"}
_CALLERS |= {"start_soon", "run_in_executor", "to_thread", "start_new_thread", "call_soon", "wrap"}


class Fetch(NamedTuple):
    """A fetch that nobody asks for: of which class (None at import), where, and behind what gate.

    `gates` are the variables of the environment that are asked for on the way.
    """

    owner: ast.ClassDef | None
    line: int
    gates: frozenset[str]


class _Code(NamedTuple):
    """Some nodes that are run together; a class's methods may be called by them."""

    nodes: Sequence[ast.AST]
    owner: ast.ClassDef | None = None


def fetches(source: Source) -> Iterator[Fetch]:
    """Find what fetches at import, and the classes that fetch when one is made."""
    if not {each.split(".")[0] for each in source.imported.values()} & _LIBRARIES:
        return
    clients = {*_clients(source)}
    functions = {each.node.name: each for each in source.members if each.owner is None}
    whole = [
        node
        for statement in statements(source.tree.body)
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for node in _here(statement)
    ]
    made = {}
    for owner in source.classes.values():
        methods = source.methods(owner)
        begins = [methods[name] for name in ("__init__", "__post_init__") if name in methods]
        nodes = [node for member in begins for node in own(member.node)]
        found = _reached(source, _Code(nodes, owner), functions, clients)
        if found is not None:
            made[owner.name] = Fetch(owner, begins[0].node.lineno, found)
    yield from made.values()
    gates = _reached(source, _Code(whole), functions, clients)
    if gates is not None:
        yield Fetch(None, 1, gates)
        return
    for node in whole:  # an instance of such a class may be made at import
        if isinstance(node, ast.Call) and last_name(node.func) in made:
            yield made[last_name(node.func)]._replace(owner=None, line=node.lineno)
            return


_LIBRARIES = {each.split(".")[0] for each in _FETCHES | _CLIENTS}


def _here(statement: ast.stmt) -> Iterator[ast.AST]:
    """A statement without those in it, which come by themselves."""
    yield statement
    for child in ast.iter_child_nodes(statement):
        if not isinstance(child, ast.stmt | ast.ExceptHandler):
            yield child
            yield from own(child)


def _clients(source: Source) -> Iterator[str]:
    """Names that HTTP clients and sockets are kept at."""
    makers = {*_CLIENTS, *_makers(source)}
    for node in ast.walk(source.tree):
        match node:
            case (
                ast.Assign(targets=[target], value=ast.Call(func=func))
                | ast.withitem(context_expr=ast.Call(func=func), optional_vars=ast.expr() as target)
            ):
                if source.dotted(func) in makers:
                    yield ast.unparse(target)


def _makers(source: Source) -> Iterator[str]:
    """Functions and methods that return a client."""
    for member in source.members:
        for node in own(member.node):
            match node:
                case ast.Return(value=ast.Call(func=func)) if source.dotted(func) in _CLIENTS:
                    yield f"self.{member.node.name}" if member.on_self else member.name


def _reached(
    source: Source, begin: _Code, functions: Mapping[str, Member], clients: set[str]
) -> frozenset[str] | None:
    """What gates are on the way to a fetch from here, by calls within the module; None if none."""
    left, seen, gates, found = [begin], set[int](), set[str](), False
    while left:
        code = left.pop()
        methods = source.methods(code.owner) if code.owner is not None else {}
        for node in code.nodes:
            gates |= {*_gates(source, node)}
            if not isinstance(node, ast.Call):
                continue
            found = found or _is_fetch(source, node, clients)
            for named in _calls(node):
                member = _called_here(named, functions, methods)
                if member is not None and id(member.node) not in seen:
                    seen.add(id(member.node))
                    owner = code.owner if member.owner is not None else None
                    left.append(_Code([*own(member.node)], owner))
    return frozenset(gates) if found else None


def _called_here(
    named: ast.expr, functions: Mapping[str, Member], methods: Mapping[str, Member]
) -> Member | None:
    if isinstance(named, ast.Name):
        return functions.get(named.id)
    if isinstance(named, ast.Attribute) and isinstance(named.value, ast.Name):
        return methods.get(named.attr) if named.value.id in {"self", "cls"} else None
    return None


def _calls(call: ast.Call) -> Iterator[ast.expr]:
    """What a call calls: itself, and what is handed to something that will."""
    yield call.func
    if last_name(call.func) in _CALLERS:
        yield from call.args
        yield from (each.value for each in call.keywords)


def _is_fetch(source: Source, call: ast.Call, clients: set[str]) -> bool:
    if source.dotted(call.func) in _FETCHES:
        return True
    match call.func:
        case ast.Attribute(value=ast.Call(func=made), attr=verb):
            return verb in _CLIENT_CALLS and source.dotted(made) in _CLIENTS
        case ast.Attribute(value=client, attr=verb):
            return verb in _CLIENT_CALLS and ast.unparse(client) in clients
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


def of_fetch(source: Source, fetch: Fetch, module: str) -> Candidate:
    """Have its gate proven, where it has one for tests; else have it make no attempt at all."""
    gates = sorted(fetch.gates)
    for_tests = any("PYTEST" in each for each in gates)
    made = making(source, fetch.owner) if fetch.owner else Making((), (), ())
    doubts = [*made.doubts, *made.unknown()]
    others = [each for each in gates if "PYTEST" not in each]
    name, at_import = (fetch.owner.name, False) if fetch.owner else ("", True)
    if others and not for_tests and at_import:
        doubts.append(f"say with rows= what {' and '.join(others)} is in production")
    proven = at_import or (for_tests and not doubts and not made.arguments({}))
    subject = f'"import {module}"' if at_import else f'"{module}:{name}"'
    what = "when it is imported" if at_import else f"when {name} is made"
    behind = f", unless {' or '.join(gates)} says otherwise" if gates else ""
    return Candidate(
        kind="gated" if proven else "silent",
        name=name,
        line=fetch.line,
        score=ENOUGH + 15,
        why=f"reaches for the network {what}{behind}",
        fills={
            "test_is_silent": [test_line(name or module, "fetches_nothing_under_test", [])],
            "todo": todo(doubts),
            "make": [Call("", spoken(name), made.arguments({}))],
            "check": [Call("", "prove_gate", [subject])],
        },
        budget={},
        doubts=doubts,
    )

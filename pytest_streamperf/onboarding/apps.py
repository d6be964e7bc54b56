"""ASGI apps of a module, and a request that they are sure to answer."""

import ast
from collections.abc import Iterator
from typing import NamedTuple

from pytest_streamperf.onboarding.candidate import Candidate, spoken, test_line
from pytest_streamperf.onboarding.consumers import ENOUGH
from pytest_streamperf.onboarding.source import Function, Member, Source, last_name, own, statements
from pytest_streamperf.onboarding.templates import Call, todo

_APPS = {"FastAPI", "Starlette"}
_STREAMS = {"StreamingResponse", "EventSourceResponse"}
# What a handler reads of a request that a bare GET has not.
_WANTS = {"json", "body", "form", "query_params", "path_params", "session", "user", "auth"}
_PROTECTED = {"Depends", "Security"}


class App(NamedTuple):
    """An app, or what makes one: how it is had, and what to ask of it."""

    name: str
    line: int
    made_by_call: bool
    request: str
    streams: bool
    doubt: str


class _Route(NamedTuple):
    path: str
    method: str
    streams: bool
    bare: bool


def apps(source: Source) -> Iterator[App]:
    """Find apps at module level, and functions without arguments that say they make one."""
    found: list[tuple[str, int, bool]] = []
    for node in statements(source.tree.body):
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=func))
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.Call(func=func))
            ) if last_name(func) in _APPS:
                found.append((name, node.lineno, False))
    for member in source.members:
        returns, needs = member.node.returns, any(each.required for each in member.parameters)
        makes = returns is not None and last_name(returns) in _APPS
        if makes and not needs and member.owner is None:
            found.append((member.name, member.node.lineno, True))
    routes = [*_decorated(source), *_listed(source)]
    best = max(routes, key=lambda each: (each.bare, each.streams), default=None)
    for name, line, made_by_call in found:
        if best is not None and best.bare:
            request, doubt = f'Request("GET", "{best.path}")', ""
        else:
            method, path = (best.method, best.path) if best else ("GET", "/")
            request = f'Request("{method}", "{path}"{"" if method == "GET" else ", {}"})'
            doubt = "no request was found that is answered as it stands: put in one that is"
        yield App(name, line, made_by_call, request, bool(best and best.streams), doubt)


def _decorated(source: Source) -> Iterator[_Route]:
    for member in source.members:
        for decorator in member.node.decorator_list:
            match decorator:
                case ast.Call(
                    func=ast.Attribute(attr="get" | "post" | "put" as method),
                    args=[ast.Constant(value=str() as path), *_],
                ) if path.startswith("/"):
                    given = [*decorator.args, *(each.value for each in decorator.keywords)]
                    guarded = any(_mentions(each, _PROTECTED) for each in given)
                    takes = [each.name for each in member.parameters if _wanted(each.annotation)]
                    needed = {each.name for each in member.parameters if each.required}
                    bare = method == "get" and not guarded and not needed & {*takes}
                    yield _route(member, path, method.upper(), bare=bare)


def _listed(source: Source) -> Iterator[_Route]:
    functions = {each.node.name: each for each in source.members if each.owner is None}
    for node in ast.walk(source.tree):
        match node:
            case ast.Call(
                func=func, args=[ast.Constant(value=str() as path), ast.Name(id=name), *_]
            ) if last_name(func) == "Route" and name in functions:
                methods = next(
                    (ast.unparse(each.value) for each in node.keywords if each.arg == "methods"),
                    "GET",
                )
                method = "GET" if "GET" in methods else "POST"
                yield _route(functions[name], path, method, bare=method == "GET")


def _route(member: Member, path: str, method: str, *, bare: bool) -> _Route:
    body = [*own(member.node)]
    asks = any(isinstance(each, ast.Attribute) and each.attr in _WANTS for each in body)
    asks = asks or _mentions_default(member.node)
    plain = "{" not in path and path.isprintable() and '"' not in path and "\\" not in path
    return _Route(path, method, _mentions(member.node, _STREAMS), bare and plain and not asks)


def _wanted(annotation: str) -> bool:
    """Whether a parameter is more than the request itself."""
    return not annotation.endswith("Request")


def _mentions(node: ast.AST, names: set[str]) -> bool:
    return any(
        (isinstance(each, ast.Attribute) and each.attr in names)
        or (isinstance(each, ast.Name) and each.id in names)
        for each in [node, *own(node)]
    )


def _mentions_default(node: Function) -> bool:
    defaults = [*node.args.defaults, *node.args.kw_defaults]
    return any(_mentions(each, _PROTECTED) for each in defaults if each)


def of_app(app: App) -> Candidate:
    """Have clients come and go."""
    name = spoken(app.name)
    doubts = [app.doubt] if app.doubt else []
    given = [
        f"{name}()" if app.made_by_call else name,
        f"requests=[{app.request}]",
        "read=None",
        "crowd=50",
    ]
    return Candidate(
        kind="served",
        name=app.name,
        line=app.line,
        score=ENOUGH + 10 * app.streams,
        why="an ASGI app" + (" that streams" if app.streams else ""),
        fills={
            "test_survives": [test_line(app.name, "survives", [])],
            "todo": todo(doubts),
            "check": [Call("", "assert_survives", given)],
        },
        budget={},
        doubts=doubts,
    )

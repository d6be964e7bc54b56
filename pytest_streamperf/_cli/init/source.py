"""Parse a source file with `ast`, and answer questions about its functions, classes and names.

The bytes of a file go in; a `Source` comes out. Nothing of the file is imported or run.
"""

import ast
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
# These decorators do not change how a function is called.
_NEUTRAL_DECORATORS = {"staticmethod", "classmethod", "override", "final"}


class Unreadable(ValueError):  # noqa: N818 - an adjective, as users see it
    """A source file cannot be read: the text names the file, the line and the reason."""


class Parameter(NamedTuple):
    """A parameter of a function.

    `annotation` is source text, `default` is None for a required parameter, and `by_name` marks a
    keyword-only one.
    """

    name: str
    annotation: str
    default: ast.expr | None
    by_name: bool = False


class Member(NamedTuple):
    """A function of a module, or a method of one of its classes."""

    node: ast.FunctionDef | ast.AsyncFunctionDef
    owner: ast.ClassDef | None

    @property
    def name(self) -> str:
        """The qualified name in the module: "collect", "Reply.feed"."""
        return f"{self.owner.name}.{self.node.name}" if self.owner else self.node.name

    @property
    def is_async(self) -> bool:
        """True for a function that is defined with `async def`."""
        return isinstance(self.node, ast.AsyncFunctionDef)

    @property
    def yields(self) -> bool:
        """True for a generator function."""
        return any(isinstance(node, ast.Yield | ast.YieldFrom) for node in own_nodes(self.node))

    @property
    def decorators(self) -> set[str]:
        """The last name of each decorator that may change how the function is called."""
        return {last_name(node) for node in self.node.decorator_list} - _NEUTRAL_DECORATORS

    @property
    def doubts(self) -> list[str]:
        """A list with one doubt for each decorator that may change the function."""
        decorators = sorted(self.decorators)
        return [f"the effect of @{name} on {self.name} is unknown" for name in decorators]

    @property
    def parameters(self) -> Sequence[Parameter]:
        """The parameters that a caller passes, in order, without `*args`, `**kwargs` and `self`."""
        signature = self.node.args
        positional = [*signature.posonlyargs, *signature.args]
        missing = len(positional) - len(signature.defaults)
        defaults = [*[None] * missing, *signature.defaults]
        static = "staticmethod" in map(last_name, self.node.decorator_list)
        parameters = [_parameter(*pair) for pair in zip(positional, defaults, strict=True)]
        keyword_only = zip(signature.kwonlyargs, signature.kw_defaults, strict=True)
        bound = self.owner is not None and not static
        return [*parameters[bound:], *(_parameter(*pair, by_name=True) for pair in keyword_only)]

    @property
    def required(self) -> Sequence[Parameter]:
        """The parameters that have no default."""
        return [parameter for parameter in self.parameters if parameter.default is None]


class Source(NamedTuple):
    """A parsed module: its functions and methods, its classes, and the full names of imports."""

    tree: ast.Module
    members: Sequence[Member]
    classes: Mapping[str, ast.ClassDef]
    imported: Mapping[str, str]

    def with_bases(self, owner: ast.ClassDef) -> Sequence[ast.ClassDef]:
        """Return a class and its direct and indirect bases that this module defines."""
        classes = [owner]
        for cls in classes:
            bases = (self.classes.get(last_name(base)) for base in cls.bases)
            classes += [base for base in bases if base is not None and base not in classes]
        return classes

    def methods(self, owner: ast.ClassDef) -> Mapping[str, Member]:
        """Return the methods of a class by name, with those that bases in this module define."""
        methods: dict[str, Member] = {}
        for cls in self.with_bases(owner):
            for member in self.members:
                if member.owner is cls:
                    methods.setdefault(member.node.name, Member(member.node, owner))
        return methods

    def dotted(self, node: ast.expr) -> str:
        """Return the full name of an expression, by the imports: "urllib.request.urlopen"."""
        root, dot, rest = ast.unparse(node).partition(".")
        return f"{self.imported.get(root, root)}{dot}{rest}"


def read(name: str, text: bytes) -> Source:
    """Return the parsed module; `name` is the name of the file in errors.

    Raises `Unreadable` with the line number for invalid Python.

    >>> [member.name for member in read("a.py", b"def collect(stream): ...").members]
    ['collect']
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # invalid escapes in the user's file are not our concern
            return _source(ast.parse(text))
    except SyntaxError as error:
        line = f":{error.lineno}" if error.lineno else ""
        raise Unreadable(f"{name}{line} cannot be read as Python: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise Unreadable(f"{name} cannot be read as Python: {error}") from None


def _source(tree: ast.Module) -> Source:
    classes = {node.name: node for node in own_nodes(tree) if isinstance(node, ast.ClassDef)}
    members = [
        Member(node, owner if isinstance(owner, ast.ClassDef) else None)
        for owner in (tree, *classes.values())
        for node in own_nodes(owner)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return Source(tree, members, classes, dict(_imported(tree)))


def own_nodes(*nodes: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below these nodes, in source order, that run together with them.

    Bodies of nested functions and classes are left out, and so are blocks for `__main__`.
    """
    pending = [child for node in nodes for child in ast.iter_child_nodes(node)][::-1]
    while pending:
        node = pending.pop()
        yield node
        is_main = isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)
        if not is_main and not isinstance(node, _SCOPES):
            pending += [*ast.iter_child_nodes(node)][::-1]


def call_nodes(nodes: Iterable[ast.AST]) -> Iterator[ast.Call]:
    """Yield the nodes that are calls."""
    return (node for node in nodes if isinstance(node, ast.Call))


def assignments_in(nodes: Iterable[ast.AST]) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield the target and the value of each assignment; a tuple assignment gives several pairs."""
    for node in nodes:
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
                yield from zip(targets, values, strict=False)
            case ast.Assign(targets=targets, value=value):
                yield from ((target, value) for target in targets)
            case (
                ast.AnnAssign(target=target, value=ast.expr() as value)
                | ast.NamedExpr(target=target, value=value)
                | ast.withitem(optional_vars=ast.expr() as target, context_expr=value)
            ):
                yield target, value


def last_name(node: ast.expr) -> str:
    """Return the last part of the name in an expression, without its calls and subscripts.

    >>> last_name(ast.parse("typing.Generic[T]", mode="eval").body)
    'Generic'
    """
    while isinstance(node, ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _parameter(argument: ast.arg, default: ast.expr | None, *, by_name: bool = False) -> Parameter:
    annotation = ast.unparse(argument.annotation) if argument.annotation else ""
    return Parameter(argument.arg, annotation.strip("'\""), default, by_name)


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.split(".")[0]
                yield (alias.asname, alias.name) if alias.asname else (root, root)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (
                (alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names
            )

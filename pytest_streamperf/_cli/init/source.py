"""What a source file says, read with `ast`: nothing of it is imported or run."""

import ast
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_HARMLESS = {"staticmethod", "classmethod", "override", "final"}


class Unreadable(ValueError):  # noqa: N818 - what is wrong, as an adjective: it is shown to people
    """A source file cannot be read: the text says where, and why."""


class Parameter(NamedTuple):
    """What a function takes; `annotation` is its text, `default` is None where it is required."""

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
        """As it is found in its module: "collect", "Reply.feed"."""
        return f"{self.owner.name}.{self.node.name}" if self.owner else self.node.name

    @property
    def is_async(self) -> bool:
        """Whether it is written with `async def`."""
        return isinstance(self.node, ast.AsyncFunctionDef)

    @property
    def yields(self) -> bool:
        """Whether it is a generator."""
        return any(isinstance(each, ast.Yield | ast.YieldFrom) for each in own(self.node))

    @property
    def decorators(self) -> set[str]:
        """The last parts of their names; not of those that change nothing here."""
        return {last_name(each) for each in self.node.decorator_list} - _HARMLESS

    @property
    def doubts(self) -> list[str]:
        """What its decorators leave open."""
        decorators = sorted(self.decorators)
        return [f"what @{each} makes of {self.name} cannot be told" for each in decorators]

    @property
    def parameters(self) -> Sequence[Parameter]:
        """Those that a caller gives, in order; `*` and `**` are left out."""
        given = self.node.args
        placed = [*given.posonlyargs, *given.args]
        defaults = [*[None] * (len(placed) - len(given.defaults)), *given.defaults]
        static = "staticmethod" in map(last_name, self.node.decorator_list)
        found = [_parameter(*each) for each in zip(placed, defaults, strict=True)]
        named = zip(given.kwonlyargs, given.kw_defaults, strict=True)
        bound = self.owner is not None and not static
        return [*found[bound:], *(_parameter(*each, by_name=True) for each in named)]

    @property
    def required(self) -> Sequence[Parameter]:
        """Those of its parameters that have no default."""
        return [each for each in self.parameters if each.default is None]


class Source(NamedTuple):
    """A parsed module: its functions and methods, its classes, and what its names stand for."""

    tree: ast.Module
    members: Sequence[Member]
    classes: Mapping[str, ast.ClassDef]
    imported: Mapping[str, str]

    def line_of(self, owner: ast.ClassDef) -> Sequence[ast.ClassDef]:
        """A class, and those of its bases that are in this module."""
        line = [owner]
        for each in line:
            bases = (self.classes.get(last_name(base)) for base in each.bases)
            line += [base for base in bases if base is not None and base not in line]
        return line

    def methods(self, owner: ast.ClassDef) -> Mapping[str, Member]:
        """The methods of a class, its bases in this module included."""
        found: dict[str, Member] = {}
        for each in self.line_of(owner):
            for member in self.members:
                if member.owner is each:
                    found.setdefault(member.node.name, Member(member.node, owner))
        return found

    def dotted(self, node: ast.expr) -> str:
        """What a name stands for, in full: "urllib.request.urlopen"."""
        root, dot, rest = ast.unparse(node).partition(".")
        return f"{self.imported.get(root, root)}{dot}{rest}"


def read(name: str, text: bytes) -> Source:
    """Parse a module.

    Raises `Unreadable`, with the line, for what is not Python.

    >>> [member.name for member in read("a.py", b"def collect(stream): ...").members]
    ['collect']
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # somebody else's escapes
            return _source(ast.parse(text))
    except SyntaxError as error:
        line = f":{error.lineno}" if error.lineno else ""
        raise Unreadable(f"{name}{line} is not Python that can be read: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise Unreadable(f"{name} is not Python that can be read: {error}") from None


def _source(tree: ast.Module) -> Source:
    classes = {each.name: each for each in own(tree) if isinstance(each, ast.ClassDef)}
    members = [
        Member(each, owner if isinstance(owner, ast.ClassDef) else None)
        for owner in (tree, *classes.values())
        for each in own(owner)
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return Source(tree, members, classes, dict(_imported(tree)))


def own(*nodes: ast.AST) -> Iterator[ast.AST]:
    """All below these nodes, in order, that is run where they are.

    What is inside of functions and classes is not, nor is what is for `__main__` only.
    """
    left = [child for node in nodes for child in ast.iter_child_nodes(node)][::-1]
    while left:
        node = left.pop()
        yield node
        is_main = isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)
        if not is_main and not isinstance(node, _SCOPES):
            left += [*ast.iter_child_nodes(node)][::-1]


def calls(nodes: Iterable[ast.AST]) -> Iterator[ast.Call]:
    """Those of the nodes that call something."""
    return (each for each in nodes if isinstance(each, ast.Call))


def assigned(nodes: Iterable[ast.AST]) -> Iterator[tuple[ast.expr, ast.expr]]:
    """What is assigned, and where to: one by one, where it is many at once."""
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
    """The last part of the name of what is named, called or subscripted.

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
            for each in node.names:
                root = each.name.split(".")[0]
                yield (each.asname, each.name) if each.asname else (root, root)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (
                (each.asname or each.name, f"{node.module}.{each.name}") for each in node.names
            )

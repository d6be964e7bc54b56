"""The extras in pyproject.toml: each installs the libraries that its code imports, and no more."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
OWN = {"pytest_streamperf", "reference_impl"}

# The code that needs each extra; "" stands for an installation without extras.
CODE_OF_EXTRA = {
    "": ["pytest_streamperf/**/*.py"],
    "asyncio": ["pytest_streamperf/_plugin/__init__.py"],
    "anyio": ["pytest_streamperf/virtual_clock/__init__.py"],
    "trio": ["pytest_streamperf/**/*.py"],
    "hypothesis": ["pytest_streamperf/**/*.py"],
    "http": ["pytest_streamperf/wire/server.py"],
    "gate": ["pytest_streamperf/network/stub_server.py"],
    "serve": ["pytest_streamperf/wire/*.py", "pytest_streamperf/server/*.py"],
    "reference": ["reference_impl/**/*.py", "pytest_streamperf/_plugin/agent_server.py"],
    "fast": ["pytest_streamperf/wire/server.py"],
    "html": ["pytest_streamperf/_report/html.py"],
    "onnx": ["reference_impl/curves/__init__.py"],
    "wasm": ["reference_impl/splines.py"],
}
# Extras for developers of this project: no code of the packages needs them.
FOR_DEVELOPERS = {"all", "browser", "dev", "docs", "neighbours"}
# Distributions that the code of their extra names without importing them, and why.
NAMED_ONLY = {
    "pytest-asyncio": "it calls our hook pytest_asyncio_loop_factories",
    "respx": "it calls Script.respond",
    "uvloop": "uvicorn imports it by name",
    "httptools": "uvicorn imports it by name",
}
# Developers run this script by hand; the script itself declares its libraries.
RUN_BY_HAND = {"reference_impl/curves/build.py"}


def _distribution(requirement):
    return re.match(r"[\w.-]+", requirement)[0].lower()


@cache
def _modules_by_distribution():
    """Return the names of the modules that each installed distribution provides."""
    modules = {}
    for module, distributions in packages_distributions().items():
        for distribution in distributions:
            modules.setdefault(distribution.lower(), set()).add(module)
    return modules


@cache
def _imports(file):
    """Return the top-level names that a file imports, also inside its functions."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            modules |= {word.value for word in node.args if isinstance(word, ast.Constant)}
    return {module.partition(".")[0] for module in modules}


def _files(extra):
    return {file for pattern in CODE_OF_EXTRA[extra] for file in ROOT.glob(pattern)}


def _requirements(extra):
    return EXTRAS[extra] if extra else PROJECT["dependencies"]


def _distributions_of(extra):
    """Return the distributions that an extra installs, also by the extras that it includes."""
    distributions = set()
    for requirement in _requirements(extra):
        if included := re.match(r"pytest-streamperf\[(.+)\]", requirement):
            distributions.update(*map(_distributions_of, included[1].split(",")))
        else:
            distributions.add(_distribution(requirement))
    return distributions


def test_every_extra_is_in_the_table():
    """The table `CODE_OF_EXTRA` has each extra that serves users."""
    assert {*EXTRAS} == {*CODE_OF_EXTRA, *FOR_DEVELOPERS} - {""}


@pytest.mark.parametrize(
    ("extra", "distribution"),
    [
        (extra, _distribution(requirement))
        for extra in CODE_OF_EXTRA
        for requirement in _requirements(extra)
        if not requirement.startswith("pytest-streamperf[")
    ],
)
def test_a_dependency_is_imported_by_code_that_its_extra_serves(extra, distribution):
    """A distribution of an extra is imported, or at least named, by the code of this extra."""
    if distribution in NAMED_ONLY:
        name = distribution.replace("-", "_")
        assert any(name in file.read_text(encoding="utf-8") for file in _files(extra))
    else:
        imported = set().union(*map(_imports, _files(extra)))
        assert imported & _modules_by_distribution()[distribution]


@pytest.mark.parametrize(
    "file",
    sorted(
        file.relative_to(ROOT).as_posix()
        for package in OWN
        for file in (ROOT / package).rglob("*.py")
    ),
)
def test_what_a_file_imports_is_brought_by_an_extra_that_serves_it(file):
    """A third-party module that a file imports is installed by an extra for this file."""
    if file in RUN_BY_HAND:
        return
    installed = {
        module
        for extra in CODE_OF_EXTRA
        if ROOT / file in _files(extra)
        for distribution in _distributions_of(extra)
        for module in _modules_by_distribution().get(distribution, ())
    }
    assert _imports(ROOT / file) - OWN <= installed | {
        *sys.stdlib_module_names,
        "pytest",
        "_pytest",
    }


@pytest.mark.parametrize(
    ("module", "extra"),
    sorted(
        {
            (call.args[0].value, call.args[1].value)
            for file in (ROOT / "pytest_streamperf").rglob("*.py")
            for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "missing_extra"
            if isinstance(call.args[0], ast.Constant)
        }
        # Calls without a literal name: they take it from an exception, or from a loop.
        | {("uvicorn", "serve"), ("websockets", "serve"), ("uvloop", "fast"), ("httptools", "fast")}
    ),
)
def test_an_error_for_a_missing_library_names_the_extra_that_brings_it(module, extra):
    """The extra that an error names installs the library that the error misses."""
    assert module in _distributions_of(extra)

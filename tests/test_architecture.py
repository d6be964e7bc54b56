"""The architecture: allowed imports, public names, and the modules that a run loads.

Contracts in pyproject.toml, which `lint-imports` checks, define the layers of the packages, and who
may import pytest or the reference server.
"""

import ast
import re
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pytest_streamperf"
PUBLIC = (
    "budgets",
    "growth",
    "network",
    "responsiveness",
    "server",
    "streams",
    "throttling",
    "virtual_clock",
    "wire",
)
# These packages may import third-party libraries at the top level of their modules.
WITH_EXTRAS = {"_cli", "_plugin", "_report", "server"}
# A module here is loaded only where its library is loaded, or where a user names the library.
BESIDE_A_LIBRARY = {
    "virtual_clock/trio_clock.py": {"trio"},
    "streams/strategies.py": {"hypothesis"},
    "growth/chunking_invariance.py": {"hypothesis"},
    "wire/uvicorn_server.py": {"uvicorn"},
}


@cache
def _parsed(folder):
    """Return the syntax tree of each Python file in a folder, by its path in the folder."""
    return {
        file.relative_to(ROOT / folder).as_posix(): ast.parse(file.read_text(encoding="utf-8"))
        for file in sorted((ROOT / folder).rglob("*.py"))
    }


def _imported_at_module_level(tree):
    """Yield the names of the modules that a file imports at its top level."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def _roots(names):
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("file", sorted(_parsed("pytest_streamperf")))
def test_the_core_loads_the_standard_library_alone(file):
    """A module of the core imports third-party libraries only inside functions that need them."""
    if file.partition("/")[0] in WITH_EXTRAS:
        return
    allowed = {*sys.stdlib_module_names, "pytest_streamperf"} | BESIDE_A_LIBRARY.get(file, set())
    tree = _parsed("pytest_streamperf")[file]
    assert _roots(_imported_at_module_level(tree)) <= allowed


@pytest.mark.parametrize("file", ["_plugin/__init__.py", "_plugin/recorder.py"])
def test_the_plugin_loads_the_reporter_and_nothing_else(file):
    """The plugin and its recorder import only the reporter, pytest and a few standard modules."""
    names = set(_imported_at_module_level(_parsed("pytest_streamperf")[file]))
    own = {"pytest_streamperf._plugin.recorder", "pytest_streamperf._results.reporter"}
    assert names <= own | {"__future__", "contextlib", "sys", "typing", "pytest"}


@pytest.mark.parametrize("package", PUBLIC)
def test_a_public_package_lists_its_names(package):
    """`__all__` of a public package is not empty, and has only names that exist and are public."""
    module = import_module(f"pytest_streamperf.{package}")
    names = module.__all__
    assert names
    assert not [name for name in names if name.startswith("_") or not hasattr(module, name)]


def test_every_package_is_public_or_has_an_underscore():
    """The name of each package starts with an underscore, or is in the list of public packages."""
    packages = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    assert {name for name in packages if not name.startswith("_")} == set(PUBLIC)


def _texts_for_users():
    for pattern in ("examples/**/*.py", "docs/**/*.md", "README.md", ".ci/outside/*.py"):
        yield from ROOT.glob(pattern)
    yield from (ROOT / "reference_impl").rglob("*.py")


def test_nothing_that_users_read_crosses_the_border():
    """Examples, documentation and the reference server use only public modules."""
    private = re.compile(r"pytest_streamperf(\.\w+)*\._\w+")
    crossing = {
        f"{file.relative_to(ROOT)}: {match[0]}"
        for file in _texts_for_users()
        for match in private.finditer(file.read_text(encoding="utf-8"))
    }
    assert not crossing


def _imported(tree):
    """Yield the names of all modules that a file imports, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize(
    ("folder", "private"),
    [
        ("tests", {"benchmarks"}),
        ("examples", {"benchmarks"}),
        ("pytest_streamperf", {"benchmarks", "tests", "examples"}),
        ("reference_impl", {"benchmarks", "tests", "examples"}),
    ],
)
def test_nothing_imports_what_only_developers_have(folder, private):
    """No code imports benchmarks, and no package of the wheel imports tests or examples."""
    importers = [
        file for file, tree in _parsed(folder).items() if _roots(_imported(tree)) & private
    ]
    assert importers == []


@pytest.mark.parametrize("package", ["pytest_streamperf", "reference_impl"])
def test_no_module_has_a_name_that_says_nothing(package):
    """No module is called `utils`, `helpers`, `common` or `misc`."""
    stems = {Path(file).stem for file in _parsed(package)}
    assert not stems & {"utils", "helpers", "common", "misc"}


def _isolated(code):
    """Run code with only the standard library and this checkout on its path; return its output."""
    prelude = f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
    return subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", prelude + code],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def test_growth_is_measured_with_nothing_else_installed():
    """`measure_growth` works where neither pytest nor any other library is installed."""
    code = (
        "from pytest_streamperf import measure_growth; "
        "print(measure_growth(lambda stream: ''.join(stream)).verdict)"
    )
    assert _isolated(code) == "within"


def test_importing_the_package_loads_none_of_it():
    """`import pytest_streamperf` loads none of its modules: public names load at first use."""
    code = (
        "import pytest_streamperf; "
        "print([name for name in sys.modules if name.startswith('pytest_streamperf')])"
    )
    assert _isolated(code) == "['pytest_streamperf']"


@pytest.mark.parametrize("package", ["pytest_streamperf", "reference_impl"])
def test_type_checkers_see_the_public_names(package):
    """The table of names that load at first use equals the imports under TYPE_CHECKING."""
    tree = _parsed(package)["__init__.py"]
    table = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOME_OF"
    )
    checked = {
        alias.name: node.module.removeprefix(f"{package}.")
        for branch in tree.body
        if isinstance(branch, ast.If)
        for node in branch.body
        for alias in node.names
    }
    assert table == checked


def test_every_public_name_can_be_loaded():
    """Every name in the table of public names exists in the module that the table gives."""
    package = import_module("pytest_streamperf")
    assert [name for name in package._HOME_OF if not hasattr(package, name)] == []

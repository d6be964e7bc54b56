"""The house, held by reading imports: who may know whom, and what may be loaded when."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pytest_streamperf"

# a < b: b may import a, never the other way. One row is one rank.
RANKS = (
    ("exceptions",),
    ("_results",),
    ("_runtime",),
    ("virtual_clock",),
    ("streams",),
    ("wire",),
    ("growth", "throttling", "responsiveness", "network", "server"),
    ("budgets",),
    ("_report",),
    ("_cli",),
    ("__main__", "_plugin"),
)
RANK_OF = {stem: rank for rank, stems in enumerate(RANKS) for stem in stems}
STANDARD_ONLY = {
    "growth",
    "throttling",
    "responsiveness",
    "network",
    "_results",
    "exceptions",
    "_runtime",
    "virtual_clock",
    "streams",
    "wire",
}
# These are loaded only where that library is loaded already.
BESIDE = {
    "trio_clock.py": {"trio"},
    "strategies.py": {"hypothesis"},
    "chunking_invariance.py": {"hypothesis"},
    "uvicorn_server.py": {"uvicorn"},
}


def _files(package):
    return sorted((ROOT / package).rglob("*.py"))


def _stem(file):
    """The part of the house a file belongs to: its module, or the folder it lies in."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(file, *, module_level=False):
    """Names of the modules a file imports; those for type checkers only left out."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    typing_only = {
        node
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for node in ast.walk(branch)
    }
    nodes = tree.body if module_level else ast.walk(tree)
    for node in nodes:
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _house_imports(file):
    for name in _imports(file):
        parts = name.split(".")
        if parts[0] == "pytest_streamperf" and len(parts) > 1 and parts[1] in RANK_OF:
            yield parts[1]


@pytest.mark.parametrize("file", _files("pytest_streamperf"), ids=lambda file: file.name)
def test_lower_ranks_do_not_know_higher_ones(file):
    """A module imports from lower ranks, or from its own folder."""
    stem = _stem(file)
    if stem == "__init__":
        pytest.fail("imports for its names") if list(_house_imports(file)) else None
        return
    for other in _house_imports(file):
        assert other == stem or RANK_OF[other] < RANK_OF[stem], f"{file.name} imports {other}"


def test_every_module_has_a_rank():
    """A new module is put into the order, not beside it."""
    assert {_stem(file) for file in _files("pytest_streamperf")} == {"__init__", *RANK_OF}


@pytest.mark.parametrize("stem", sorted(STANDARD_ONLY))
def test_the_core_is_standard_library_at_module_level(stem):
    """Third-party libraries are imported inside the function that needs them."""
    allowed = {*sys.stdlib_module_names, "pytest_streamperf"}
    for file in _files("pytest_streamperf"):
        if _stem(file) == stem:
            roots = {name.split(".")[0] for name in _imports(file, module_level=True)}
            assert roots <= allowed | BESIDE.get(file.name, set()), file.name


def test_only_the_plugin_imports_pytest():
    """The rest works without it."""
    with_pytest = {
        _stem(file)
        for file in _files("pytest_streamperf")
        if any(name.split(".")[0] == "pytest" for name in _imports(file))
    }
    assert with_pytest == {"_plugin"}


def test_the_plugin_imports_little_at_module_level():
    """Whatever it needs beyond `sink` is imported when a test asks for it."""
    allowed = {"__future__", "sys", "contextlib", "typing", "pytest"}
    files = (PACKAGE / "_plugin" / file for file in ("__init__.py", "recorder.py"))
    names = {name for file in files for name in _imports(file, module_level=True)}
    ours = {name for name in names if name.startswith("pytest_streamperf")}
    modules = ("pytest_streamperf._results.reporter", "pytest_streamperf._plugin.recorder")
    assert all(name.startswith(modules) for name in ours)
    assert {name.split(".")[0] for name in names - ours} <= allowed


def test_the_packages_do_not_know_each_other():
    """The `agent_server` fixture alone imports the reference server, by its public names."""
    for file in _files("reference_impl"):
        assert not any(name.startswith("pytest_streamperf") for name in _imports(file)), file
    for file in _files("pytest_streamperf"):
        names = {name for name in _imports(file) if name.split(".")[0] == "reference_impl"}
        if file == PACKAGE / "_plugin" / "agent_server.py":
            assert not any("._" in name for name in names)
        else:
            assert not names, file


@pytest.mark.parametrize("package", ["pytest_streamperf", "reference_impl"])
def test_no_private_pytest_and_no_dumping_ground(package):
    """No `_pytest` imports; no module whose name says nothing."""
    for file in _files(package):
        assert file.stem not in {"utils", "helpers", "common", "misc"}
        assert not any(name.split(".")[0] == "_pytest" for name in _imports(file)), file.name


def _isolated(code):
    """Run code in an interpreter that sees the standard library and this checkout alone."""
    prelude = f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
    return subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", prelude + code],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def test_measures_with_nothing_else_installed():
    """`measure_growth` runs where there is no pytest, nor anything else but Python."""
    code = (
        "from pytest_streamperf import measure_growth; "
        "print(measure_growth(lambda stream: ''.join(stream)).verdict)"
    )
    assert _isolated(code) == "within"


def test_importing_the_package_loads_none_of_it():
    """The public names are loaded on first use."""
    code = (
        "import pytest_streamperf; "
        "print([name for name in sys.modules if name.startswith('pytest_streamperf')])"
    )
    assert _isolated(code) == "['pytest_streamperf']"


@pytest.mark.parametrize("package", ["pytest_streamperf", "reference_impl"])
def test_public_names_are_told_once_to_people_and_once_to_type_checkers(package):
    """The table of lazy names and the imports under TYPE_CHECKING are the same."""
    file = ROOT / package / "__init__.py"
    tree = ast.parse(file.read_text(encoding="utf-8"))
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

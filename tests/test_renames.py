"""The table of renames in docs/reference/renames.toml: its new names exist, its old ones do not."""

import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RENAMES = tomllib.loads((ROOT / "docs/reference/renames.toml").read_text(encoding="utf-8"))


def _is_module(name):
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize(("old", "new"), RENAMES["modules"].items())
def test_a_renamed_module_is_found_by_its_new_name_only(old, new):
    """A renamed module can be imported by its new name, and not by its old name."""
    assert _is_module(new)
    assert not _is_module(old) or old in RENAMES["modules"].values()


@pytest.mark.parametrize("new", sorted({*filter(None, RENAMES["names"].values())}))
def test_a_renamed_name_is_in_the_module_that_the_table_says(new):
    """A renamed class, function or constant is in the module that the table gives."""
    module, name = new.split(":")
    assert hasattr(import_module(module), name)


@pytest.mark.parametrize(("old", "new"), RENAMES["tests"]["files"].items())
def test_a_moved_test_file_is_in_its_folder(old, new):
    """A moved test file is at its new path, and no file is left at the old one."""
    assert (ROOT / new).is_file()
    assert not (ROOT / old).exists()

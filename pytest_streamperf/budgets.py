"""What a project declares: `[tool.streamperf]` in its `pyproject.toml`."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_streamperf.growth.terms import Terms
from pytest_streamperf.network.attempts import allowed_hosts
from pytest_streamperf.verdict import BudgetError, Policy

_CHOICES = {"mode": ("fail", "warn"), "unproven": ("fail", "warn")}
_GROWTH = ("copies", "limit", "up_to")
_NETWORK = ("allow_hosts", "background_fetch", "block_network", "exact_network")
_KEYS = sorted((*_CHOICES, *_GROWTH, *_NETWORK))


def read_policy(file: Path) -> Policy:
    """Read the settings in a `pyproject.toml`.

    Raises `BudgetError`, which names the file, the key, and what is allowed.

    >>> read_policy(Path("pyproject.toml")).mode
    'fail'
    """
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
        for table in ("tool", "streamperf"):
            settings = settings.get(table, {})
            if not isinstance(settings, dict):
                msg = f"{table} must be a table, not {settings!r}"
                raise BudgetError(msg)
        return _policy(settings)
    except ValueError as error:
        msg = f"{file.name}: {error}"
        raise BudgetError(msg) from None


def _policy(settings: dict[str, Any]) -> Policy:
    for key, value in settings.items():
        if key not in _KEYS:
            msg = f"[tool.streamperf] has no setting {key!r}; it has {', '.join(_KEYS)}"
            raise BudgetError(msg)
        if key in _CHOICES and value not in _CHOICES[key]:
            allowed = " or ".join(map(repr, _CHOICES[key]))
            msg = f"[tool.streamperf] {key} must be {allowed}, not {value!r}"
            raise BudgetError(msg)
    growth = {key: settings[key] for key in _GROWTH if key in settings}
    network = {key: settings[key] for key in _NETWORK if key in settings}
    try:
        Terms.checked(_policy, **growth)
        check_network(**network)
    except (TypeError, ValueError) as error:
        msg = f"[tool.streamperf] {error}"
        raise BudgetError(msg) from None
    choices = {key: settings[key] for key in _CHOICES if key in settings}
    return Policy(growth=growth, network=network, **choices)


def check_network(
    *,
    background_fetch: bool = True,
    allow_hosts: Sequence[str] = (),
    block_network: bool = False,
    exact_network: bool = False,
) -> None:
    """Raise `ValueError` or `TypeError` for settings of a guard that are none.

    >>> check_network(background_fetch=False, allow_hosts=["example.org"])
    """
    for name, value in (
        ("background_fetch", background_fetch),
        ("block_network", block_network),
        ("exact_network", exact_network),
    ):
        if not isinstance(value, bool):
            msg = f"{name} must be true or false, not {value!r}"
            raise TypeError(msg)
    allowed_hosts(allow_hosts)

"""Read budgets and settings from `[tool.streamperf]` in `pyproject.toml`, and from markers.

`read_policy` returns the settings of a project. `layer_of` reads the budgets of one place.
`budget_of` merges the layers of a test into its `Budget`. All of them raise `BudgetError`, which
names the place, the key, and the allowed values.

The layers of a test, from far to near: the project's default, the profile that the test chose, the
markers of its module, its class, itself and its parameters. For each key the nearest layer wins. If
a layer says `tighter`, then from that layer on the tightest value wins.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pytest_streamperf._results.policy import Policy
from pytest_streamperf._results.units import (
    bytes_of,
    duration,
    interval_of,
    percent,
    rate_of,
    seconds_of,
    share_of,
    size,
)
from pytest_streamperf.exceptions import BudgetError
from pytest_streamperf.growth.options import GrowthOptions
from pytest_streamperf.network.attempts import allowed_hosts

# The settings of `[tool.streamperf]` by subject: verdicts, growth checks and fetch guards.
_CHOICES = ("mode", "inconclusive")
_GROWTH_SETTINGS = ("copies", "max_superlinear", "up_to")
GROWTH_BUDGETS = ("max_superlinear", "up_to")
"""Budgets that are also arguments of `assert_linear`."""

# Budgets that are settings too. A setting applies to each check, and a budget to a whole test.
_BUDGET_SETTINGS = (*GROWTH_BUDGETS, "background_fetch")
_NETWORK_SETTINGS = ("allow_hosts", "background_fetch", "block_network", "exact_network")
_SETTINGS = sorted((*_CHOICES, *_GROWTH_SETTINGS, *_NETWORK_SETTINGS, "budgets"))
# One part of a dotted key in TOML: quoted, or bare.
_KEY_PART = re.compile(r"""\"([^\"]*)\"|'([^']*)'|([^.\s"']+)""")
# Tracing memory slows the code down, so these cannot be measured in the same run.
_DISTURBED_BY_TRACING = ("max_gap", "max_stall", "max_gc_pause", "cpu_share")

# -- keys


def _read_shares(value: object) -> dict[str, float]:
    if not isinstance(value, Mapping) or not all(":" in str(name) for name in value):
        msg = f"must be a table, as {{\"package.module:function\" = '20%'}}, not {value!r}"
        raise ValueError(msg)
    return {str(name): share_of(share) for name, share in value.items()}


def _read_length(value: object) -> int:
    try:
        return GrowthOptions.of(up_to=value).up_to  # type: ignore[arg-type] # GrowthOptions.of checks it
    except (TypeError, ValueError) as error:
        raise ValueError(str(error).removeprefix("up_to ")) from None


def _read_flag(value: object) -> bool:
    if not isinstance(value, bool):
        msg = f"must be true or false, not {value!r}"
        raise ValueError(msg)  # noqa: TRY004 - the caller handles ValueError
    return value


class _Key(NamedTuple):
    """A budget key: how to read its value, choose the tighter of two values, and format one."""

    read: Callable[[object], Any]
    tighter: Callable[[Any, Any], Any]
    format_value: Callable[[Any], str]


def _tighter_shares(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {name: min(one.get(name, 1.0), other.get(name, 1.0)) for name in {**one, **other}}


def _format_shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {percent(share)}" for name, share in shares.items())


KEYS: Mapping[str, _Key] = {
    "max_superlinear": _Key(share_of, min, lambda share: f"{percent(share)} superlinear"),
    "up_to": _Key(_read_length, max, lambda deltas: f"{deltas:,} deltas"),
    "updates_every": _Key(interval_of, max, duration),
    "flushes_per_second": _Key(rate_of, min, lambda rate: f"{rate:g}/s"),
    "max_gap": _Key(seconds_of, min, duration),
    "max_stall": _Key(seconds_of, min, duration),
    "max_gc_pause": _Key(seconds_of, min, duration),
    "peak_memory": _Key(bytes_of, min, size),
    "background_fetch": _Key(_read_flag, min, lambda allowed: "allowed" if allowed else "none"),
    "cpu_share": _Key(_read_shares, _tighter_shares, _format_shares),
}
"""The budgets that a project may declare, by key."""


def _read_choice(value: object) -> object:
    if value not in ("fail", "warn"):
        msg = f"must be 'fail' or 'warn', not {value!r}"
        raise ValueError(msg)
    return value


_OPTIONS: Mapping[str, Callable[[object], Any]] = {
    "rerun": _read_flag,
    "tighter": _read_flag,
    "mode": _read_choice,
}


@dataclass(frozen=True, slots=True)
class Layer:
    """The budgets that one place declares: `values` and the `origins` of these, by key.

    `rerun`, `tighter` and `mode` say how the budgets apply.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    rerun: bool | None = None
    tighter: bool = False
    mode: Literal["fail", "warn"] | None = None
    required: bool = False
    """True if each budget must be measured: the project's default may find nothing to measure."""


class Budgeted(NamedTuple):
    """The limit of one key for one test, its place, and whether it must be measured."""

    value: Any
    origin: str
    required: bool


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits that apply to one test.

    >>> layer = layer_of({"max_gap": "200ms"}, lambda key: "here")
    >>> budget_of([layer]).limits["max_gap"].value
    0.2
    """

    limits: Mapping[str, Budgeted] = field(default_factory=dict)
    rerun: bool = False
    mode: Literal["fail", "warn"] | None = None

    def value(self, key: str) -> Any:
        """Return the limit of a key, or None if no layer declares it."""
        budgeted = self.limits.get(key)
        return budgeted.value if budgeted else None

    def lines(self) -> list[str]:
        """Return one line for each limit: its key, its value and its origin, in columns."""
        rows = [
            (key, KEYS[key].format_value(value), origin)
            for key, (value, origin, _) in self.limits.items()
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:2] if rows else []
        lines = [
            f"{key:{widths[0]}}  {value:{widths[1]}}  {origin}".rstrip()
            for key, value, origin in rows
        ]
        return lines + ([f"mode  {self.mode}"] if self.mode else [])


def layer_of(
    declared: Mapping[str, Any], origin: Callable[[str], str], *, required: bool = False
) -> Layer:
    """Read the budgets of one place; `origin` returns the place of a key, such as a file and line.

    Raises `BudgetError`, which names that place, the problem, and the allowed values.
    """
    values, options = {}, {}
    for key, value in declared.items():
        if key not in KEYS and key not in _OPTIONS:
            allowed = ", ".join([*KEYS, *_OPTIONS])
            msg = f"{origin(key)}: there is no budget {key!r}; there are {allowed}"
            raise BudgetError(msg)
        try:
            if key in KEYS:
                values[key] = KEYS[key].read(value)
            else:
                options[key] = _OPTIONS[key](value)
        except ValueError as error:
            msg = f"{origin(key)}: {key} {error}"
            raise BudgetError(msg) from None
    return Layer(values, {key: origin(key) for key in values}, required=required, **options)


def budget_of(layers: Iterable[Layer]) -> Budget:
    """Merge layers, farthest first, into the budget of one test.

    Raises `BudgetError`, with both places, if two limits cannot be measured in one run.
    """
    limits: dict[str, Budgeted] = {}
    rerun, mode, tighter = False, None, False
    for layer in layers:
        tighter = tighter or layer.tighter
        rerun, mode = rerun if layer.rerun is None else layer.rerun, layer.mode or mode
        for key, value in layer.values.items():
            new = Budgeted(value, layer.origins[key], layer.required)
            old = limits.get(key)
            if tighter and old:
                tightest = KEYS[key].tighter(old.value, value)
                new = (old if tightest == old.value else new)._replace(
                    value=tightest, required=old.required or layer.required
                )
            limits[key] = new
    disturbed = [key for key in _DISTURBED_BY_TRACING if key in limits]
    if "peak_memory" in limits and disturbed and not rerun:
        memory, other = limits["peak_memory"], limits[disturbed[0]]
        msg = (
            f"{memory.origin}: peak_memory cannot be measured together with {disturbed[0]} "
            f"({other.origin}), as tracing memory slows everything down; "
            "rerun = true measures it in a run of its own"
        )
        raise BudgetError(msg)
    return Budget(
        {key: limits[key] for key in KEYS if key in limits},
        rerun and "peak_memory" in limits and bool(disturbed),
        mode,
    )


# -- pyproject.toml


def read_policy(file: Path) -> Policy:
    """Read the settings in a `pyproject.toml`.

    Raises `BudgetError`, which names the file, the line, the key, and the allowed values.

    >>> read_policy(Path("pyproject.toml")).mode
    'fail'
    """
    try:
        text = file.read_text(encoding="utf-8")
        settings = tomllib.loads(text)
    except ValueError as error:
        msg = f"{file.name}: {error}"
        raise BudgetError(msg) from None

    def place(table: Sequence[str], key: str) -> str:
        line = line_of(text, table, key)
        while line is None and table:  # an inline table: its own line is the best place
            *table, key = table
            line = line_of(text, table, key)
        return f"{file.name}:{line}" if line else file.name

    for table in ("tool", "streamperf"):
        settings = settings.get(table, {})
        if not isinstance(settings, dict):
            msg = f"{file.name}: {table} must be a table, not {settings!r}"
            raise BudgetError(msg)
    return _policy(settings, place)


def _policy(settings: dict[str, Any], place: Callable[[Sequence[str], str], str]) -> Policy:
    table = ("tool", "streamperf")

    def refuse(key: str, problem: str) -> BudgetError:
        return BudgetError(f"{place(table, key)}: [tool.streamperf] {problem}")

    for key, value in settings.items():
        if key not in _SETTINGS:
            raise refuse(key, f"has no setting {key!r}; it has {', '.join(_SETTINGS)}")
        if key in _CHOICES:
            try:
                _read_choice(value)
            except ValueError as error:
                raise refuse(key, f"{key} {error}") from None
    growth = {key: settings[key] for key in _GROWTH_SETTINGS if key in settings}
    network = {key: settings[key] for key in _NETWORK_SETTINGS if key in settings}
    for check, chosen in ((_check_growth, growth), (check_network, network)):
        for key, value in chosen.items():
            try:
                check(**{key: value})
            except (TypeError, ValueError) as error:
                raise refuse(key, str(error)) from None
    budgets = settings.get("budgets", {})
    if not isinstance(budgets, dict):
        raise refuse("budgets", f"budgets must be a table, not {budgets!r}")
    choices = {key: settings[key] for key in _CHOICES if key in settings}
    layers = _layers(budgets, place)
    defaults = _settings_layer(settings, lambda key: place(table, key))
    _refuse_two_values(defaults, layers.get("", Layer()))
    return Policy(growth=growth, network=network, budgets=layers, defaults=defaults, **choices)


def _settings_layer(settings: Mapping[str, Any], origin: Callable[[str], str]) -> Layer:
    """Return the settings that are budgets too, as the farthest layer."""
    keys = [key for key in _BUDGET_SETTINGS if key in settings]
    return Layer(
        {key: KEYS[key].read(settings[key]) for key in keys},
        {key: origin(key) for key in keys},
    )


def _refuse_two_values(defaults: Layer, declared: Layer) -> None:
    for key in defaults.values.keys() & declared.values.keys():
        one, other = defaults.values[key], declared.values[key]
        if one != other:
            msg = (
                f"{declared.origins[key]}: {key}, {KEYS[key].format_value(other)}, contradicts "
                f"{defaults.origins[key]}, {KEYS[key].format_value(one)}: say it once"
            )
            raise BudgetError(msg)


def _layers(
    budgets: dict[str, Any], place: Callable[[Sequence[str], str], str]
) -> dict[str, Layer]:
    """Return the layers of a project by name: "" for the default, and one for each profile."""
    table = ("tool", "streamperf", "budgets")
    profiles = {
        name: declared
        for name, declared in budgets.items()
        if isinstance(declared, dict) and name not in KEYS
    }
    default = {key: value for key, value in budgets.items() if key not in profiles}
    layers = {"": layer_of(default, lambda key: place(table, key))} if default else {}
    if "tighter" in default:
        msg = f"{place(table, 'tighter')}: tighter is for profiles and markers only"
        raise BudgetError(msg)
    for name, declared in profiles.items():

        def origin(key: str, name: str = name) -> str:
            return f"{place((*table, name), key)} ({name})"

        layers[name] = layer_of(declared, origin)
    for name in layers:
        # Merging raises an error here if the default and this profile contradict each other.
        budget_of([layers[layer] for layer in dict.fromkeys(("", name)) if layer in layers])
    return layers


def line_of(text: str, table: Sequence[str], key: str) -> int | None:
    r"""Return the line, from 1, of a key in a table of a TOML text; None if no line matches.

    >>> line_of("[tool.streamperf]\nmode = 'warn'", ["tool", "streamperf"], "mode")
    2
    """
    name = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*[.=]""")
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[?([^\]]+)\]", line):
            parts = ["".join(part) for part in _KEY_PART.findall(header[1])]
            inside = parts == [*table]
            if parts == [*table, key]:
                return number
        elif inside and name.match(line):
            return number
    return None


def _check_growth(**arguments: Any) -> None:
    GrowthOptions.of(**arguments)


def check_network(
    *,
    background_fetch: bool = True,
    allow_hosts: Sequence[str] = (),
    block_network: bool = False,
    exact_network: bool = False,
) -> None:
    """Raise `ValueError` or `TypeError` if a setting of the fetch guard is invalid.

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

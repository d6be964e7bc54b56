"""The arguments of a growth check, declared once, read once and passed on whole.

`GrowthArguments` are what callers may write: numbers or text with units. `GrowthOptions` are the
same, checked, complete, and in seconds and parts. Nothing else in growth declares an argument.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, Self, TypedDict, Unpack

from pytest_streamperf._results.units import argument, seconds_of, share_of
from pytest_streamperf.growth.metered_stream import BLOCKS
from pytest_streamperf.growth.thresholds import THRESHOLDS
from pytest_streamperf.streams.token_stream import count_of
from pytest_streamperf.wire.dialects import dialect

Metric = Literal["allocated_bytes", "cpu_time", "calls"]
"""What decides a verdict: bytes allocated, CPU time, or the number of calls."""
METRICS: tuple[Metric, ...] = ("allocated_bytes", "cpu_time", "calls")


class GrowthArguments(TypedDict, total=False):
    """The keyword arguments of every form of the growth check; see `measure_growth`."""

    up_to: int
    max_superlinear: float | str
    copies: Literal["fail", "warn"]
    delta: Callable[[int], Any] | None
    sizes: Sequence[int] | None
    serve: str | None
    seconds: float | str
    timeout: float | str
    metrics: Sequence[Metric]


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthOptions:
    """`GrowthArguments`, checked and complete: `seconds` and `timeout` are in seconds.

    >>> GrowthOptions.of(max_superlinear="30%", timeout="1min").timeout
    60.0
    """

    up_to: int = 20_000
    max_superlinear: float = 0.25
    copies: Literal["fail", "warn"] = "fail"
    delta: Callable[[int], Any] | None = None
    sizes: tuple[int, ...] = ()
    serve: str | None = None
    seconds: float = 2.0
    timeout: float = 30.0
    metrics: tuple[Metric, ...] = METRICS

    @classmethod
    def of(cls, **arguments: Unpack[GrowthArguments]) -> Self:
        """Return the options for these arguments.

        Raises `TypeError` and `ValueError` that name the argument that is wrong.
        """
        options: dict[str, Any] = {
            name: _READERS[name](name, value) if name in _READERS else value
            for name, value in arguments.items()
        }
        return cls(**options)

    def __post_init__(self) -> None:
        """Check the options that depend on others, and complete those of a served stream."""
        count_of("up_to", self.up_to, least=BLOCKS if self.serve is None else 2 * BLOCKS)
        if self.serve is None:
            return
        dialect(self.serve)
        if self.delta is not None:
            msg = "delta= makes the deltas of a stream, and with serve= consume gets a URL"
            raise ValueError(msg)
        if not self.sizes:
            object.__setattr__(self, "sizes", tuple(sorted(_halved_lengths(self.up_to))))
        # How fast chunks arrive, and so how many at once, makes the time of a client vary.
        if self.metrics == METRICS:
            object.__setattr__(self, "metrics", ("calls",))

    @property
    def max_length(self) -> int:
        """The maximum length in deltas: the longest stream that the check vouches for."""
        return self.sizes[-1] if self.sizes else self.up_to

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths to run, in deltas, shortest first: the maximum, a quarter of it, and so on.

        The shortest has a delta for each of the 64 blocks.
        """
        if self.sizes:
            return self.sizes
        lengths = [self.up_to, self.up_to // 4]
        while lengths[-1] // 4 >= BLOCKS:
            lengths.append(lengths[-1] // 4)
        return tuple(reversed(lengths))


def check_callable(name: str, value: object) -> None:
    """Raise `TypeError` for an argument that cannot be called."""
    if not callable(value):
        msg = f"{name} must be a callable, not {value!r}"
        raise TypeError(msg)


def _halved_lengths(length: int) -> list[int]:
    """Return the length, half of it, and so on, as far as worth a run."""
    return [length, *(_halved_lengths(length // 2) if length >= BLOCKS else ())]


def _read_delta(name: str, value: object) -> object:
    if value is not None:
        check_callable(name, value)
    return value


def _read_copies(name: str, value: object) -> object:
    if value not in ("fail", "warn"):
        msg = f"{name} must be 'fail' or 'warn', not {value!r}"
        raise ValueError(msg)
    return value


def _read_metrics(name: str, value: object) -> tuple[object, ...]:
    are_metrics = isinstance(value, Sequence) and all(metric in METRICS for metric in value)
    if isinstance(value, str) or not value or not are_metrics:
        msg = f"{name} must be one or more of {METRICS}, not {value!r}"
        raise ValueError(msg)
    return tuple(value)  # type: ignore[arg-type] # it is a sequence


def _read_seconds(name: str, value: object) -> float:
    return _positive(name, seconds_of, value)


def _read_share(name: str, value: object) -> float:
    return _positive(name, share_of, value, most=1.0)


def _positive(
    name: str, read: Callable[[object], float], value: object, most: float = inf
) -> float:
    """Return a number unchanged, or read a text by `read`; both must be greater than 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        value = argument(name, read, value)
    if not 0 < value <= most:
        bound = "" if most == inf else f" and at most {most:g}"
        msg = f"{name} must be greater than 0{bound}, not {value!r}"
        raise ValueError(msg)
    return value


def _read_sizes(name: str, value: object) -> tuple[int, ...]:
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        msg = f"{name} must be a sequence of lengths, not {value!r}"
        raise TypeError(msg)
    lengths = tuple(sorted({count_of(name, length, least=1) for length in value}))
    if len(lengths) < THRESHOLDS.min_sizes:
        msg = f"{name} must be at least {THRESHOLDS.min_sizes} different lengths, not {value!r}"
        raise ValueError(msg)
    return lengths


_READERS: Mapping[str, Callable[[str, object], object]] = {
    "max_superlinear": _read_share,
    "copies": _read_copies,
    "delta": _read_delta,
    "sizes": _read_sizes,
    "seconds": _read_seconds,
    "timeout": _read_seconds,
    "metrics": _read_metrics,
}
"""By the name of an argument, the function that reads it."""

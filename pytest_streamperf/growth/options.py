"""What a growth check is asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypedDict

from pytest_streamperf.growth.meters import BLOCKS
from pytest_streamperf.streams.token_stream import count_of
from pytest_streamperf.wire.dialects import dialect

Meter = Literal["copies", "time", "calls"]
METERS: tuple[Meter, ...] = ("copies", "time", "calls")

LEAST_SIZES = 3


class GrowthTerms(TypedDict, total=False):
    """The keyword arguments that every form of the growth check takes; see `measure_growth`."""

    up_to: int
    limit: float
    copies: Literal["fail", "warn"]
    delta: Callable[[int], Any] | None
    sizes: Sequence[int] | None
    serve: str | None
    seconds: float
    timeout: float
    meters: Sequence[Meter]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """`GrowthTerms`, checked and complete."""

    up_to: int
    limit: float
    copies: Literal["fail", "warn"]
    delta: Callable[[int], Any] | None
    sizes: tuple[int, ...]
    serve: str | None
    seconds: float
    timeout: float
    meters: tuple[Meter, ...]

    @classmethod
    def checked(  # noqa: PLR0913 - as many as `measure_growth` has
        cls,
        consume: object,
        *,
        up_to: int = 20_000,
        limit: float = 0.25,
        copies: Literal["fail", "warn"] = "fail",
        delta: Callable[[int], Any] | None = None,
        sizes: Sequence[int] | None = None,
        serve: str | None = None,
        seconds: float = 2.0,
        timeout: float = 30.0,
        meters: Sequence[Meter] = METERS,
    ) -> Self:
        """Check the arguments: `TypeError` and `ValueError` name the one that is wrong."""
        _callable("consume", consume)
        if delta is not None:
            _callable("delta", delta)
        if copies not in ("fail", "warn"):
            msg = f"copies must be 'fail' or 'warn', not {copies!r}"
            raise ValueError(msg)
        known = isinstance(meters, Sequence) and all(meter in METERS for meter in meters)
        if isinstance(meters, str) or not meters or not known:
            msg = f"meters must be one or more of {METERS}, not {meters!r}"
            raise ValueError(msg)
        count_of("up_to", up_to, least=BLOCKS if serve is None else 2 * BLOCKS)
        if serve is not None:
            dialect(serve)
            if delta is not None:
                msg = "delta= makes the deltas of a stream, and with serve= consume gets a URL"
                raise ValueError(msg)
            sizes = sizes or _halved(up_to)
            # How fast chunks come, and so how many at once, makes the time of a client waver.
            meters = ("calls",) if meters == METERS else meters
        return cls(
            up_to=up_to,
            limit=_positive("limit", limit, most=1.0),
            copies=copies,
            delta=delta,
            sizes=_sizes(sizes),
            serve=serve,
            seconds=_positive("seconds", seconds),
            timeout=_positive("timeout", timeout),
            meters=tuple(meters),
        )

    @property
    def horizon(self) -> int:
        """The length that is to be vouched for, in deltas."""
        return self.sizes[-1] if self.sizes else self.up_to

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths to run: the horizon, a quarter of it, and so on, as far as worth a run."""
        if self.sizes:
            return self.sizes
        lengths = [self.up_to, self.up_to // 4]
        while lengths[-1] // 4 >= BLOCKS:
            lengths.append(lengths[-1] // 4)
        return tuple(reversed(lengths))


def _halved(length: int) -> list[int]:
    """The length, half of it, and so on, as far as worth a run."""
    return [length, *(_halved(length // 2) if length >= BLOCKS else ())]


def _callable(name: str, value: object) -> None:
    if not callable(value):
        msg = f"{name} must be a callable, not {value!r}"
        raise TypeError(msg)


def _positive(name: str, value: object, most: float = float("inf")) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        msg = f"{name} must be a number, not {value!r}"
        raise TypeError(msg)
    if not 0 < value <= most:
        bound = "" if most == float("inf") else f" and at most {most:g}"
        msg = f"{name} must be greater than 0{bound}, not {value!r}"
        raise ValueError(msg)
    return value


def _sizes(sizes: Sequence[int] | None) -> tuple[int, ...]:
    if sizes is None:
        return ()
    if isinstance(sizes, str) or not isinstance(sizes, Sequence):
        msg = f"sizes must be a sequence of lengths, not {sizes!r}"
        raise TypeError(msg)
    checked = tuple(sorted({count_of("sizes", size, least=1) for size in sizes}))
    if len(checked) < LEAST_SIZES:
        msg = f"sizes must be at least {LEAST_SIZES} different lengths, not {sizes!r}"
        raise ValueError(msg)
    return checked

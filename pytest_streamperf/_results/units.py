"""Read and write times, shares, rates and sizes.

`seconds_of`, `interval_of`, `share_of`, `fraction_of`, `rate_of`, `bytes_of` and `mean_bytes_of`
read a number, or a text with a unit, such as "50ms". They raise `ValueError` for any other value.
`argument` names the argument in the error. `size`, `thousands`, `duration` and `percent` write
figures for people.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

Seconds = float | str
"""A duration: a number of seconds, or a text with a unit: "50us", "50ms", "1.5s", "2min"."""

Bytes = int | str
"""A size: a number of bytes, or a text with a unit: "64MiB" (of 1,024), "64MB" (of 1,000)."""

Rate = float | str
"""A rate: a number of times per second, or a text with the unit: "10/s"."""

Share = float | str
"""A part of a whole: a number from 0 to 1, or a text in percent: "25%"."""

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
_SHARES = {"%": 0.01}
_RATES = {"/s": 1.0}
_BYTES = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}


def seconds_of(value: object) -> float:
    """Return seconds, 0 or more, from a number or a text; `ValueError` for any other value.

    >>> seconds_of("200ms")
    0.2
    """
    seconds = _number_of(value, _SECONDS)
    if seconds is None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        limits = " 0 or more and finite," if is_number else ""
        raise _value_error(value, f"a time,{limits} as '200ms', '1.5s' or 0.2 seconds")
    return seconds


def interval_of(value: object) -> float:
    """Return seconds, more than 0, from a number or a text; `ValueError` for any other value.

    >>> interval_of("200ms")
    0.2
    """
    seconds = seconds_of(value)
    if not seconds:
        msg = f"must be more than 0 seconds, not {value!r}"
        raise ValueError(msg)
    return seconds


def share_of(value: object) -> float:
    """Return a share, above 0 and up to 1, from a number or a percentage; else `ValueError`.

    >>> share_of("25%")
    0.25
    """
    share = _number_of(value, _SHARES)
    if share is None or not 0 < share <= 1:
        raise _value_error(value, "a share, as '25%' or 0.25")
    return share


def fraction_of(value: object) -> float:
    """Return a share, from 0 to 1, from a number or a percentage; else `ValueError`.

    >>> fraction_of("0%")
    0.0
    """
    fraction = _number_of(value, _SHARES)
    if fraction is None or fraction > 1:
        raise _value_error(value, "from 0 to 1, as '50%' or 0.5")
    return fraction


def rate_of(value: object) -> float:
    """Return a rate per second, 1 or more, from a number or a text; else `ValueError`.

    >>> rate_of("10/s")
    10.0
    """
    rate = _number_of(value, _RATES)
    if rate is None or rate < 1:
        raise _value_error(value, "1 or more in a second, as '10/s' or 10")
    return rate


def bytes_of(value: object) -> int:
    """Return whole bytes from a number or a text; `ValueError` for any other value.

    >>> bytes_of("64MiB")
    67108864
    """
    return int(mean_bytes_of(value))


def mean_bytes_of(value: object) -> float:
    """Return an average size in bytes, not rounded; `ValueError` for any other value.

    >>> mean_bytes_of(1.5), mean_bytes_of("1kB")
    (1.5, 1000.0)
    """
    size = _number_of(value, _BYTES)
    if size is None:
        raise _value_error(value, "a number of bytes, or as '64MiB' or '64MB'")
    return size


def argument(name: str, read: Callable[[object], T], value: object) -> T:
    """Return the value of an argument, as one of the functions above reads it.

    The error names the argument: `TypeError` for a value that is neither number nor text,
    `ValueError` for a number out of range or a text with another unit.

    >>> argument("timeout", seconds_of, "30s")
    30.0
    """
    try:
        return read(value)
    except ValueError as error:
        wrong_type = isinstance(value, bool) or not isinstance(value, int | float | str)
        raise (TypeError if wrong_type else ValueError)(f"{name} {error}") from None


def optional_argument(name: str, read: Callable[[object], T], value: object) -> T | None:
    """Return the value of an argument as `argument` does, or None if it is None."""
    return None if value is None else argument(name, read, value)


def _value_error(value: object, allowed: str) -> ValueError:
    return ValueError(f"must be {allowed}, not {value!r}")


def _number_of(value: object, units: Mapping[str, float]) -> float | None:
    """Return a finite number, 0 or more, from a number or a text with a unit; None for the rest."""
    number = value
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(\S+)\s*", value, re.ASCII)
        if match is None or match[2].lower() not in units:
            return None
        number = round(float(match[1]) * units[match[2].lower()], 9)
    if not isinstance(number, int | float) or isinstance(number, bool):
        return None
    return number if 0 <= number <= sys.float_info.max else None


# A figure has three digits: from 99.95 on it would round to 100.0, so it loses its decimal place.
# From 999.5 on it would round to 1000, so it takes the next unit.
_NO_DECIMALS_FROM, _NEXT_UNIT_FROM = 99.95, 999.5


def size(count: float) -> str:
    """Write a size in bytes for people; 1 kB is 1000 bytes.

    >>> size(25_100)
    '25.1 kB'
    """
    return _scaled(count, (" B", " kB", " MB", " GB", " TB"))


def thousands(count: float) -> str:
    """Write a large count for people.

    >>> thousands(640), thousands(12_100_000)
    ('640', '12.1M')
    """
    return _scaled(count, ("", "k", "M", "G", "T"))


def _scaled(count: float, units: Sequence[str]) -> str:
    power = 0
    while count >= _NEXT_UNIT_FROM and power < len(units) - 1:
        count, power = count / 1000, power + 1
    digits = 1 if power and count < _NO_DECIMALS_FROM else 0
    return f"{count:,.{digits}f}{units[power]}"


def duration(seconds: float) -> str:
    """Write seconds for people, in ASCII.

    >>> duration(0.0000024), duration(0.021), duration(2.1)
    ('2.40 us', '21.0 ms', '2.1 s')
    """
    if seconds < _NEXT_UNIT_FROM / 1e6:
        return f"{seconds * 1e6:.2f} us" if seconds < 9.9995e-5 else f"{seconds * 1e6:.0f} us"  # noqa: PLR2004
    if seconds < _NEXT_UNIT_FROM / 1e3:
        milliseconds = seconds * 1e3
        return f"{milliseconds:.{0 if milliseconds >= _NO_DECIMALS_FROM else 1}f} ms"
    return f"{seconds:,.{0 if seconds >= _NO_DECIMALS_FROM else 1}f} s"


def percent(share: float) -> str:
    """Write a share as a percentage for people.

    >>> percent(0.25)
    '25%'
    """
    return f"{share * 100:.0f}%"

"""The sink that checks report to, and the functions that report to it.

The plugin opens a sink for a run with `reporting_to`. Outside pytest no sink is open, and reports
are dropped. pytest loads this module for runs without checks, too, so it imports nothing else of
the project.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pytest_streamperf._results.policy import Policy
    from pytest_streamperf._results.verdict import Verdict


class Sink(Protocol):
    """The receiver of reports and the source of the policy: the record of a run, under pytest."""

    @property
    def policy(self) -> Policy:
        """The policy that decides whether a verdict fails, warns or passes."""

    def begin(self, check: object) -> None:
        """Note that an async check was called and has still to be awaited."""

    def end(self, check: object) -> None:
        """Note that an async check was awaited."""

    def concerns(self, subject: object) -> None:
        """Note a new counter, or a stream before it is read: a budget may apply to it."""

    def progress(self, text: str) -> None:
        """Show the progress of a long check; an empty text means that it is done."""

    def report(self, verdict: Verdict) -> None:
        """Take the verdict of a concluded check."""


_sinks: list[Sink] = []


class reporting_to:  # noqa: N801 - a context manager; `contextlib` would be one more module to load
    """Send every report to `sink` inside a `with` block; the innermost block wins."""

    __slots__ = ("_sink",)

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def __enter__(self) -> None:
        _sinks.append(self._sink)

    def __exit__(self, *_: object) -> None:
        _sinks[:] = [sink for sink in _sinks if sink is not self._sink]


def current_sink() -> Sink | None:
    """Return the sink that was opened last, or None if none is open."""
    return _sinks[-1] if _sinks else None


def report(verdict: Verdict) -> None:
    """Send a verdict to the current sink, if there is one."""
    sink = current_sink()
    if sink is not None:
        sink.report(verdict)


def progress(text: str) -> None:
    """Send the progress of a check to the current sink, if any; an empty text means done."""
    sink = current_sink()
    if sink is not None:
        sink.progress(text)


def concerns(subject: object) -> None:
    """Send a new counter, or a stream before it is read, to the current sink, if any."""
    sink = current_sink()
    if sink is not None:
        sink.concerns(subject)

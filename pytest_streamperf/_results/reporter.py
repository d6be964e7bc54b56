"""Where checks report to: all of the project that pytest loads for a run without checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pytest_streamperf._results.policy import Policy
    from pytest_streamperf._results.verdict import Verdict


class Sink(Protocol):
    """Where checks report to, and what they go by: a run's record, under pytest."""

    @property
    def policy(self) -> Policy:
        """What comes of a verdict."""

    def begin(self, check: object) -> None:
        """An async check was called; it has still to be awaited."""

    def end(self, check: object) -> None:
        """An async check was awaited."""

    def concerns(self, subject: object) -> None:
        """A counter was made, or a stream is about to be read: a budget may be about it."""

    def progress(self, text: str) -> None:
        """A check that takes long says where it is; with nothing that it is done."""

    def report(self, verdict: Verdict) -> None:
        """A check was concluded."""


_sinks: list[Sink] = []


class reporting_to:  # noqa: N801 - a context manager; `contextlib` would be one more module to load
    """Send every verdict to `sink` for as long as it is open; without one they go nowhere."""

    __slots__ = ("_sink",)

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def __enter__(self) -> None:
        _sinks.append(self._sink)

    def __exit__(self, *_: object) -> None:
        _sinks[:] = [each for each in _sinks if each is not self._sink]


def current_sink() -> Sink | None:
    """The sink that was opened last, if any is open."""
    return _sinks[-1] if _sinks else None


def report(verdict: Verdict) -> None:
    """Tell the current sink, if there is one, what a check concluded."""
    sink = current_sink()
    if sink is not None:
        sink.report(verdict)


def progress(text: str) -> None:
    """Tell the current sink, if there is one, where a check is; nothing that it is done."""
    sink = current_sink()
    if sink is not None:
        sink.progress(text)


def concerns(subject: object) -> None:
    """Tell the current sink, if there is one, of a counter, or of a stream that is to be read."""
    sink = current_sink()
    if sink is not None:
        sink.concerns(subject)

"""What survives from run to run: a consumer that keeps state cannot be measured."""

from collections.abc import Generator, Sequence
from dataclasses import replace

from pytest_streamperf.growth.meters import Run
from pytest_streamperf.growth.runner import Probe, Runner, Undecided

# The longest stream is run so many times more before what it leaves behind is called state.
_AGAIN = 3


def look_for_state(
    runner: Runner, lengths: Sequence[int], part: float
) -> Generator[Probe, None, list[Run]]:
    """Make counted runs until one leaves nothing behind; those that are longer than any before.

    Each may take `part` of the CPU seconds that are left.

    What is kept of every run, and the more the longer it was, is state: then `Undecided` is raised.
    Not what is kept once (a cache), nor the same of each run, nor a small part of what a run holds:
    interpreters and libraries keep a little too, and a server lets go when it has time for it.
    """
    runs: list[Run] = []
    least = None
    for length in (*lengths, *[lengths[-1]] * _AGAIN):
        run = yield from runner.run("copies", length, runner.cpu_left() * part)
        if not runs or run.length > runs[-1].length:
            runs.append(run)
        first = least or replace(run, length=0, held=0, kept=0)
        more_held, more_kept = run.held - first.held, run.kept - first.kept
        if more_kept < max(run.length - first.length, more_held / 4):
            return runs
        least = least or run
    msg = (
        f"consume kept {run.kept:,} bytes of a stream of {length:,} deltas after it returned: "
        "what it builds must be built inside consume (mocks, log handlers and captured output "
        "keep what they are given, too)"
    )
    raise Undecided(msg)

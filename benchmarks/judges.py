"""One judge, asked about one accumulator: `python -m benchmarks.judges JUDGE CASE RUNS SECONDS`.

Prints a line of JSON, `[verdict, CPU seconds]`, for each run. It runs in an environment that has
the peers. Each is used as its own documentation shows, on streams of up to 20,000 deltas, and said
to find superlinear work where it names a class beyond n log n.
"""

import asyncio
import contextlib
import inspect
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import fresh
from pytest_streamperf import TokenStream, measure_growth
from tests.data import accumulators

UP_TO = 20_000
SIZES = [1_250, 2_500, 5_000, 10_000, 20_000]
# Twice as long takes twice the time where work is linear, and four times where it is quadratic.
RATIO = 3.0

Consume = Callable[[Any], object]

LINEAR = accumulators.LINEAR | fresh.LINEAR
SUPERLINEAR = accumulators.SUPERLINEAR | fresh.SUPERLINEAR
CASES = LINEAR | SUPERLINEAR
EXPECTED = dict.fromkeys(LINEAR, "within") | dict.fromkeys(SUPERLINEAR, "exceeded")

OURS = "this project"


def plain(consume: Consume) -> Consume:
    """Make a consumer one of a list of deltas, for judges that know nothing else."""

    async def drain(stream: TokenStream) -> None:
        async for _ in consume(stream):
            pass

    awaited = drain if inspect.isasyncgenfunction(consume) else consume
    if not inspect.iscoroutinefunction(awaited):
        return consume
    return lambda deltas: asyncio.run(awaited(TokenStream(list(deltas))))


def deltas_of(length: int, terms: dict[str, Any]) -> list[Any]:
    """Make the deltas of a stream of this length."""
    return list(TokenStream(int(length), delta=terms.get("delta")).deltas)


def streamperf(consume: Consume, terms: dict[str, Any], _name: str) -> str:
    """Ask this project."""
    return measure_growth(consume, up_to=UP_TO, **terms).verdict


def big_o(consume: Consume, terms: dict[str, Any], _name: str) -> str:
    """Ask big_O, which fits classes to times."""
    import big_o  # noqa: PLC0415 - each peer by its own name, when it is asked
    from big_o import complexities  # noqa: PLC0415

    best, _ = big_o.big_o(plain(consume), lambda n: deltas_of(n, terms), max_n=UP_TO, n_timings=3)
    linear = (
        complexities.Constant,
        complexities.Logarithmic,
        complexities.Linear,
        complexities.Linearithmic,
    )
    return "within" if isinstance(best, linear) else "exceeded"


def bigocheck(consume: Consume, terms: dict[str, Any], _name: str) -> str:
    """Ask bigocheck, which fits classes to times."""
    from bigocheck import benchmark_function  # noqa: PLC0415

    found = benchmark_function(
        plain(consume), SIZES, trials=3, warmup=1, setup=lambda n: ((deltas_of(n, terms),), {})
    )
    linear = {"O(1)", "O(log n)", "O(\N{SQUARE ROOT}n)", "O(n)", "O(n log n)"}
    return "within" if found.best_label in linear else "exceeded"


def countfn(consume: Consume, terms: dict[str, Any], _name: str) -> str:
    """Ask countfn, which counts how often elements are read and written."""
    from countfn import UNDETERMINED, measure  # noqa: PLC0415

    # Counts that are the same for every input of one size want a tolerance, or all is undetermined.
    found = measure(
        plain(consume),
        sizes=SIZES,
        make_input=lambda n, _: deltas_of(n, terms),
        trials=2,
        tolerance=0.05,
    )
    verdicts = [each["verdict"] for each in found["per_channel"].values()]
    classes = {verdict for verdict in verdicts if verdict is not UNDETERMINED}
    if not classes:
        return "inconclusive"
    return "within" if classes <= {"1", "log n", "n", "n log n"} else "exceeded"


def pytest_benchmark(_consume: Consume, _terms: dict[str, Any], name: str) -> str:
    """Ask pytest-benchmark for the time of a stream and of one twice as long."""
    import pytest  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        report = Path(folder, "report.json")
        os.environ["STREAMPERF_CASE"] = name
        options = ["-q", "-p", "no:cacheprovider", f"--rootdir={folder}", "-c", os.devnull]
        pytest.main(
            [*options, f"--benchmark-json={report}", str(Path(__file__).with_name("ratio.py"))]
        )
        times = [each["stats"]["min"] for each in json.loads(report.read_text())["benchmarks"]]
    shorter, longer = sorted(times)
    return "exceeded" if longer / shorter > RATIO else "within"


JUDGES = {
    OURS: streamperf,
    "big_O": big_o,
    "bigocheck": bigocheck,
    "countfn": countfn,
    "pytest-benchmark ratio": pytest_benchmark,
}


def main(judge: str, case: str, runs: str, seconds: str) -> None:
    """Ask as often as `runs` says; a peer, only until it has spent so many CPU seconds."""
    consume, terms = CASES[case]
    began = time.process_time()
    for _ in range(int(runs)):
        start = time.process_time()
        verdict = JUDGES[judge](consume, terms, case)
        print(json.dumps([verdict, time.process_time() - start]), flush=True)
        if judge != OURS and time.process_time() - began > float(seconds):
            break


if __name__ == "__main__":
    main(*sys.argv[1:])

"""One side, measured: `python -m benchmarks.regressions.side MODULE:CONSUMER [DELTA]`, to JSON.

It runs in the environment of the release that it consumes.
"""

import json
import sys
import time
from pathlib import Path
from pkgutil import resolve_name

from benchmarks.regressions import deltas
from pytest_streamperf import measure_growth


def main(consumer: str, delta: str = "") -> None:
    """Measure one consumer and print what was found."""
    consume = resolve_name(f"benchmarks.regressions.{consumer}")
    start = time.process_time()
    growth = measure_growth(consume, delta=getattr(deltas, delta) if delta else None)
    found = {
        "verdict": growth.verdict,
        "metric": growth.metric,
        "share": growth.superlinear_share,
        "measured_to": growth.measured_to,
        "headline": growth.headline,
        "cpu_seconds": time.process_time() - start,
        "blame": [
            {
                "place": f"{Path(blame.file).name}:{blame.line} in {blame.function}",
                "source": blame.source,
                "call": blame.call,
                "share": blame.share,
            }
            for blame in growth.blame
        ],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The curve model of `curves`, loaded once for all requests, and the counts of its use.

`loaded` returns the model, and `inferred` runs it on prices. `Cached` holds the model with its
counts.

The first request starts the load, in a thread; the load ends with one run that warms the model up.
Requests that come meanwhile wait for the same load, even if the client of the first one leaves. If
the load fails, all waiting requests get None, and the next request starts a new load.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any, Final

from reference_impl import curves

MODEL: Final = "curve-detection"

_LOG = logging.getLogger(__name__)


@dataclass
class Model:
    """A loaded model; `warm` is whether it has run at least once."""

    runtime: curves.Runtime
    warm: bool = False

    def run(self, windows: Any) -> Any:
        """Return the model's scores, a row for each window, and mark the model as warm."""
        scores = self.runtime.run(windows)
        self.warm = True
        return scores


@dataclass(slots=True)
class Cached:
    """A model that is loaded on first use, with counts since the start of the server.

    `loads` counts started loads, `failures` failed loads, and `inferences` finished inferences.
    `cold` counts requests whose model was not warm yet. `seconds` is the time of all inferences
    together.
    """

    model: Model | None = None
    loading: asyncio.Task[Model | None] | None = None
    loads: int = 0
    failures: int = 0
    inferences: int = 0
    cold: int = 0
    seconds: float = 0.0

    def status(self) -> dict[str, Any]:
        """Return the state and the counts of the model, as JSON data; times are in milliseconds."""
        return {
            "loaded": self.model is not None,
            "warmupComplete": self.model is not None and self.model.warm,
            "runtime": self.model.runtime.name if self.model is not None else None,
            "loads": self.loads,
            "failures": self.failures,
            "inferenceCount": self.inferences,
            "cold": self.cold,
            "totalInferenceTime": 1000 * self.seconds,
            "avgInferenceTime": 1000 * self.seconds / self.inferences if self.inferences else 0.0,
        }


async def loaded(cached: Cached) -> Model | None:
    """Return the model, or None if it cannot be loaded; all callers share one load."""
    if cached.model is not None:
        return cached.model
    if cached.loading is None or cached.loading.done():
        cached.loading = asyncio.create_task(load(cached))
    # A cancelled caller does not cancel the shared load. A caller gets the result of the load that
    # it waited for, even if a new load has started meanwhile.
    loading = cached.loading
    await asyncio.wait([loading])
    return loading.result()


async def load(cached: Cached) -> Model | None:
    """Load the model anew and warm it up; return it, or None if that fails."""
    cached.loads += 1
    try:
        cached.model = await asyncio.to_thread(_ready)
    except Exception:  # noqa: BLE001 - waiting requests are refused after any error
        cached.failures += 1
        _LOG.exception(
            "the model %s cannot be loaded", MODEL
        )  # once per load, not once per waiting request
        return None
    return cached.model


def _ready() -> Model:
    """Load the model, warm it up and return it."""
    model = Model(curves.load())
    warm_up(model)
    return model


def warm_up(model: Model) -> None:
    """Run the model once on zeros: a first run takes more time and memory than later ones."""
    model.run(curves.windows([0.0] * curves.WINDOW))


def inferred(model: Model, prices: list[float]) -> tuple[dict[str, Any], float]:
    """Return the curves in the prices, as JSON data, and the time of the inference in seconds."""
    windows = curves.windows(prices)
    start = time.perf_counter()
    scores = model.run(windows)
    seconds = time.perf_counter() - start
    detected = curves.detected_curves(scores, len(prices))
    return {"model": MODEL, "runtime": model.runtime.name, "curves": detected}, seconds

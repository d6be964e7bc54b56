"""A model that is loaded once, for all who ask: see `curves` for what it knows.

Whoever asks first has the model loaded, in a thread, and run once before anybody gets an answer of
it. All who come meanwhile wait for that one load, whoever of them leaves. If it fails they are told
so, and the next to come has it tried again.
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
    """One that is loaded; it is warm when it has run once."""

    runtime: curves.Runtime
    warm: bool = False

    def run(self, windows: Any) -> Any:
        """The scores of windows."""
        scores = self.runtime.run(windows)
        self.warm = True
        return scores


@dataclass(slots=True)
class Cached:
    """A model that is loaded on first use, and what it has done since the server began.

    `cold` are the times that it was asked before it was warm.
    """

    model: Model | None = None
    loading: asyncio.Task[Model | None] | None = None
    loads: int = 0
    failures: int = 0
    inferences: int = 0
    cold: int = 0
    seconds: float = 0.0

    def status(self) -> dict[str, Any]:
        """All that is known of it; times are in milliseconds."""
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
    """The model, None where it cannot be loaded: the first to ask has it done for all."""
    if cached.model is not None:
        return cached.model
    if cached.loading is None or cached.loading.done():
        cached.loading = asyncio.create_task(load(cached))
    # Who leaves ends only their own waiting. And what failed for those who wait is theirs alone.
    loading = cached.loading
    await asyncio.wait([loading])
    return loading.result()


async def load(cached: Cached) -> Model | None:
    """Load the model and warm it up, whatever is there; None where that fails."""
    cached.loads += 1
    try:
        cached.model = await asyncio.to_thread(_ready)
    except Exception:  # noqa: BLE001 - whatever it is, who waits is told so
        cached.failures += 1
        _LOG.exception("the model %s cannot be loaded", MODEL)  # once, not for each who waits
        return None
    return cached.model


def _ready() -> Model:
    model = Model(curves.load())
    warm_up(model)
    return model


def warm_up(model: Model) -> None:
    """Run it for nobody: the first run takes longer, and memory."""
    model.run(curves.windows([0.0] * curves.WINDOW))


def inferred(model: Model, prices: list[float]) -> tuple[dict[str, Any], float]:
    """What the model says of prices, and how long it took, in seconds."""
    windows = curves.windows(prices)
    began = time.perf_counter()
    scores = model.run(windows)
    seconds = time.perf_counter() - began
    seen = curves.found(scores, len(prices))
    return {"model": MODEL, "runtime": model.runtime.name, "curves": seen}, seconds

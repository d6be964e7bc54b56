"""Seeded regressions of the model cache in `inference`: loading, warm-up and memory.

`assert_loaded_once` must catch each of them.
"""

from functools import partial
from typing import Any

from reference_impl import inference
from reference_impl.seeded_regressions import seeded


async def loaded_for_each_request(cached: inference.Cached) -> inference.Model | None:
    """The model is loaded anew for every request."""
    return await inference.load(cached)


async def loaded_by_each_waiting_request(cached: inference.Cached) -> inference.Model | None:
    """Requests that arrive while the model is being loaded load it again."""
    if cached.model is None:
        await inference.load(cached)
    return cached.model


def not_warmed_up(_model: inference.Model) -> None:
    """The model is not warmed up, so the first requests wait for its slow first run."""


def inferred_with_prices_kept(
    model: inference.Model, prices: list[float]
) -> tuple[dict[str, Any], float]:
    """The model keeps the prices of every request in memory."""
    vars(model).setdefault("kept_prices", []).append(prices)
    return _healthy_inferred(model, prices)


_healthy_inferred = inference.inferred  # the healthy function, saved before it is replaced
_loading_regression = partial(seeded, "assert_loaded_once")

REGRESSIONS = (
    _loading_regression("load-per-request", "inference:loaded", loaded_for_each_request),
    _loading_regression("thundering-herd", "inference:loaded", loaded_by_each_waiting_request),
    _loading_regression("no-warm-up", "inference:warm_up", not_warmed_up),
    _loading_regression("inputs-kept", "inference:inferred", inferred_with_prices_kept),
)

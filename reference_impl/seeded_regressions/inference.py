"""Mistakes in how a model is kept: when it is loaded, for whom, and what is kept beside it."""

from functools import partial
from typing import Any

from reference_impl import inference
from reference_impl.seeded_regressions import seeded


async def loaded_each_time(cached: inference.Cached) -> inference.Model | None:
    """Loads the model where it is needed, which is in every request."""
    return await inference.load(cached)


async def loaded_by_all_who_wait(cached: inference.Cached) -> inference.Model | None:
    """Looks whether the model is there, and goes and loads it: so do all who come meanwhile."""
    if cached.model is None:
        await inference.load(cached)
    return cached.model


def not_warmed_up(_model: inference.Model) -> None:
    """Leaves the first run, which takes longer, to the first who ask."""


def inferred_and_kept(model: inference.Model, prices: list[float]) -> tuple[dict[str, Any], float]:
    """Keeps all that it was asked, to see one day whether that has changed."""
    vars(model).setdefault("asked", []).append(prices)
    return _inferred(model, prices)


_inferred = inference.inferred  # as it is, whatever takes its place
_once = partial(seeded, "assert_loaded_once")

REGRESSIONS = (
    _once("load-per-request", "inference:loaded", loaded_each_time),
    _once("thundering-herd", "inference:loaded", loaded_by_all_who_wait),
    _once("no-warm-up", "inference:warm_up", not_warmed_up),
    _once("inputs-kept", "inference:inferred", inferred_and_kept),
)

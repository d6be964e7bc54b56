"""Curves in prices, over HTTP.

    POST /api/ai/maparse         {"prices": [...]} -> {"model", "runtime", "curves": [...]}
    GET  /api/ai/models/status   {"models": {name: {...}}, "summary": {...}}: see `inference`

A curve is {"start", "end", "kind", "scores"}, for each window of the prices.
"""

import asyncio
from reprlib import repr as short
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reference_impl import curves, inference
from reference_impl.bodies import RequestError, read_json

_MOST, _FARTHEST = 4_096, 1e12
_PRICES = f'{{"prices": [{curves.WINDOW} to {_MOST:,} numbers from -1e12 to 1e12]}}'


def routes(max_body: int) -> list[Route]:
    """Both paths, and a model of their own; bodies are of `max_body` bytes at most."""
    cached = inference.Cached()

    async def maparse(request: Request) -> Response:
        prices = prices_of(await read_json(request, max_body, _PRICES))
        model = await inference.loaded(cached)
        if model is None:
            raise RequestError(
                503,
                "model_unavailable",
                f"the model {inference.MODEL} cannot be loaded now: ask again",
            )
        cached.cold += not model.warm
        answer, seconds = await asyncio.to_thread(inference.inferred, model, prices)
        cached.inferences += 1
        cached.seconds += seconds
        took = f"{1000 * seconds:.3f}ms"
        exposed = {"Access-Control-Expose-Headers": "X-Inference-Time"}  # to pages of others
        return JSONResponse(answer, headers={"X-Inference-Time": took, **exposed})

    async def status(_request: Request) -> Response:
        known = cached.status()
        summary = {
            "total": 1,
            "loaded": int(known["loaded"]),
            "ready": int(known["warmupComplete"]),
        }
        found = {"models": {inference.MODEL: known}, "summary": summary}
        return JSONResponse(found, headers={"Cache-Control": "no-store"})

    return [
        Route("/api/ai/maparse", maparse, methods=["POST"]),
        Route("/api/ai/models/status", status, methods=["GET"]),
    ]


def prices_of(data: Any) -> list[float]:
    """Check `data["prices"]`: a list of numbers, as many and as large as are allowed."""
    prices = data.get("prices") if isinstance(data, dict) else None
    if not isinstance(prices, list):
        what = f"the body has no prices: {short(data)}"
    elif not curves.WINDOW <= len(prices) <= _MOST:
        what = f"there are {len(prices):,} prices"
    else:
        # Python reads NaN and Infinity, too, which are in no range.
        wrong = next((n for n, each in enumerate(prices) if not _is_price(each)), None)
        if wrong is None:
            return [float(each) for each in prices]
        what = f"prices[{wrong}] is {short(prices[wrong])}"
    raise RequestError(422, "wrong_shape", f"{what}, allowed: {_PRICES}")


def _is_price(each: object) -> bool:
    return (
        isinstance(each, int | float)
        and not isinstance(each, bool)
        and -_FARTHEST <= each <= _FARTHEST
    )

"""The curve model over HTTP: routes that find curves in prices and show the model's state.

    POST /api/ai/maparse         {"prices": [...]} -> {"model", "runtime", "curves": [...]}
    GET  /api/ai/models/status   {"models": {name: {...}}, "summary": {...}}: see `inference`

Each window of the prices gets one curve: {"start", "end", "kind", "scores"}. `curves` defines the
windows and the kinds.
"""

import asyncio
from reprlib import repr as short
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reference_impl import curves, inference
from reference_impl.bodies import RequestError, read_json

# Limits that keep a request small: 4,096 prices are 511 windows. Not measured.
_MAX_PRICES, _MAX_ABS_PRICE = 4_096, 1e12
_ALLOWED_BODY = f'{{"prices": [{curves.WINDOW} to {_MAX_PRICES:,} numbers from -1e12 to 1e12]}}'


def routes(max_body: int) -> list[Route]:
    """Return both routes, which share one model; a body has at most `max_body` bytes."""
    cached = inference.Cached()

    async def maparse(request: Request) -> Response:
        prices = prices_of(await read_json(request, max_body, _ALLOWED_BODY))
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
        inference_time = f"{1000 * seconds:.3f}ms"
        exposed_header = {"Access-Control-Expose-Headers": "X-Inference-Time"}  # to other origins
        return JSONResponse(answer, headers={"X-Inference-Time": inference_time, **exposed_header})

    async def status(_request: Request) -> Response:
        model_status = cached.status()
        summary = {
            "total": 1,
            "loaded": int(model_status["loaded"]),
            "ready": int(model_status["warmupComplete"]),
        }
        report = {"models": {inference.MODEL: model_status}, "summary": summary}
        return JSONResponse(report, headers={"Cache-Control": "no-store"})

    return [
        Route("/api/ai/maparse", maparse, methods=["POST"]),
        Route("/api/ai/models/status", status, methods=["GET"]),
    ]


def prices_of(data: Any) -> list[float]:
    """Return the numbers in `data["prices"]` as floats.

    Raises a `RequestError` if there are too few, too many or no prices, or if one is out of range.
    """
    prices = data.get("prices") if isinstance(data, dict) else None
    if not isinstance(prices, list):
        problem = f"the body has no prices: {short(data)}"
    elif not curves.WINDOW <= len(prices) <= _MAX_PRICES:
        problem = f"there are {len(prices):,} prices"
    else:
        # Python's JSON reader also accepts NaN and Infinity, which are out of range.
        invalid_index = next((n for n, price in enumerate(prices) if not _is_price(price)), None)
        if invalid_index is None:
            return [float(price) for price in prices]
        problem = f"prices[{invalid_index}] is {short(prices[invalid_index])}"
    raise RequestError(422, "wrong_shape", f"{problem}, allowed: {_ALLOWED_BODY}")


def _is_price(price: object) -> bool:
    return (
        isinstance(price, int | float)
        and not isinstance(price, bool)
        and -_MAX_ABS_PRICE <= price <= _MAX_ABS_PRICE
    )

"""What requests ask, read within a bound, and checked; a refusal says what is allowed."""

import json
import re
from collections.abc import Collection
from reprlib import repr as short
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from reference_impl.agent import Message
from reference_impl.writers import error_body

# Browsers say whose page a POST comes from, and what is no browser need not.
_LOOPBACK = re.compile(r"https?://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")


class RequestError(Exception):
    """A request that is refused: its status, and the type and the message of the error."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(status, kind, message)


async def refuse(_request: Request, refusal: Exception) -> Response:
    """Answer with the error."""
    status, kind, message = refusal.args
    return JSONResponse(error_body(kind, message), status)


def refuse_strangers(request: Request) -> None:
    """Refuse what a page from elsewhere asks for: whoever is visited could change something here.

    refuse_strangers(request)  # a RequestError, or nothing
    """
    origin = request.headers.get("origin")
    if origin is not None and not _LOOPBACK.fullmatch(origin):
        raise RequestError(
            403,
            "foreign_origin",
            f"a page from {short(origin)} changes nothing here, "
            "allowed: pages from 127.0.0.1, localhost and [::1]",
        )


async def read_json(request: Request, limit: int, allowed: str) -> Any:
    """Read the body, of `limit` bytes at most, as JSON; `allowed` is what it should look like."""
    body = await read(request, limit)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(
            400, "malformed_json", f"the body is not JSON ({error}), allowed: {allowed}"
        ) from None


async def read(request: Request, limit: int) -> bytes:
    """Read the body, of `limit` bytes at most."""
    too_large = RequestError(
        413, "body_too_large", f"the body is too large, allowed: {limit} bytes"
    )
    if int(request.headers.get("content-length", "0")) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > limit:
            raise too_large
        body += chunk
    return bytes(body)


def messages_of(data: Any, roles: Collection[str], allowed: str) -> list[Message]:
    """Check `data["messages"]`: objects with one of the roles, and text.

    Text is a string, or a list of parts as SDKs send it.
    """
    messages = data.get("messages") if isinstance(data, dict) else None
    if not isinstance(messages, list) or not messages:
        raise RequestError(
            422, "wrong_shape", f"the body has no messages: {short(data)}, allowed: {allowed}"
        )
    checked: list[Message] = []
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        text = _text(message.get("content")) if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in roles or text is None:
            raise RequestError(
                422, "wrong_shape", f"messages[{index}] is {short(message)}, allowed: {allowed}"
            )
        checked.append({"role": role, "content": text})
    return checked


def message_in(request: Request) -> list[Message]:
    """Take what a user says from the query: a browser's EventSource can send nothing else."""
    text = request.query_params.get("message")
    if not text:
        raise RequestError(422, "wrong_shape", "the query has no message, allowed: ?message=text")
    return [{"role": "user", "content": text}]


def _text(content: Any) -> str | None:
    match content:
        case str(text):
            return text
        case [{"type": "text", "text": str(text)}, *more]:
            rest = _text(more) if more else ""
            return None if rest is None else text + rest
    return None

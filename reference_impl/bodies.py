"""Reading and checking of requests: JSON bodies up to a size, messages, and the `Origin` header.

A request that fails a check raises a `RequestError`. `refuse` turns the error into a response whose
message says which input is allowed.
"""

import json
import re
from collections.abc import Collection
from reprlib import repr as short
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from reference_impl.agent import Message
from reference_impl.writers import error_body

# Matches the origin of a page from this machine. A browser sends the origin of its page with every
# POST; other clients need not send one.
_LOOPBACK_ORIGIN = re.compile(r"https?://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?")


class RequestError(Exception):
    """A refused request: HTTP status, type of the error, and message of the error."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(status, kind, message)


async def refuse(_request: Request, refusal: Exception) -> Response:
    """Return the response for a `RequestError`: an exception handler of Starlette."""
    status, kind, message = refusal.args
    return JSONResponse(error_body(kind, message), status)


def refuse_foreign_origin(request: Request) -> None:
    """Raise a `RequestError` if the request comes from a page of another machine.

    Otherwise any web page that a developer visits could change the server on their machine. A
    request without an `Origin` header passes.
    """
    origin = request.headers.get("origin")
    if origin is not None and not _LOOPBACK_ORIGIN.fullmatch(origin):
        raise RequestError(
            403,
            "foreign_origin",
            f"a page from {short(origin)} may not change this server, "
            "allowed: pages from 127.0.0.1, localhost and [::1]",
        )


async def read_json(request: Request, limit: int, allowed: str) -> Any:
    """Return the body as JSON, at most `limit` bytes; `allowed` shows its shape in errors."""
    body = await read(request, limit)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(
            400, "malformed_json", f"the body is not JSON ({error}), allowed: {allowed}"
        ) from None


async def read(request: Request, limit: int) -> bytes:
    """Return the body, at most `limit` bytes; a larger one raises a `RequestError`."""
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
    """Return the messages in `data["messages"]`, each checked for its role and its text.

    The text of a message is a string, or a list of text parts as the SDKs send it. A wrong shape
    raises a `RequestError`; `allowed` shows the right one.
    """
    messages = data.get("messages") if isinstance(data, dict) else None
    if not isinstance(messages, list) or not messages:
        raise RequestError(
            422, "wrong_shape", f"the body has no messages: {short(data)}, allowed: {allowed}"
        )
    checked: list[Message] = []
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        text = _text_of_content(message.get("content")) if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in roles or text is None:
            raise RequestError(
                422, "wrong_shape", f"messages[{index}] is {short(message)}, allowed: {allowed}"
            )
        checked.append({"role": role, "content": text})
    return checked


def message_in(request: Request) -> list[Message]:
    """Return the user's message of the query `?message=`: an EventSource can send no body."""
    text = request.query_params.get("message")
    if not text:
        raise RequestError(422, "wrong_shape", "the query has no message, allowed: ?message=text")
    return [{"role": "user", "content": text}]


def _text_of_content(content: Any) -> str | None:
    match content:
        case str(text):
            return text
        case [{"type": "text", "text": str(text)}, *more]:
            rest = _text_of_content(more) if more else ""
            return None if rest is None else text + rest
    return None

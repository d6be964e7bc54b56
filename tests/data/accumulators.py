"""Accumulators: consumers of a stream whose growth is known, for tests and benchmarks of verdicts.

A consumer takes a stream of deltas, and its work is linear or superlinear by construction.
`LINEAR` and `SUPERLINEAR` map a name to a consumer and its keyword arguments of `measure_growth`.
"""

import ast
import heapq
import io
import random
import struct
from collections.abc import Iterator
from typing import Any

from partial_json_parser import loads

from pytest_streamperf import object_arguments, string_arguments


def local_string(stream):
    """Extend a local string: linear, as CPython does it in place if no other name refers to it."""
    text = ""
    for delta in stream:
        text += delta
    return text


def list_and_join(stream):
    """Collect deltas in a list, and join them once: linear."""
    parts = []
    for delta in stream:
        parts.append(delta)
    return "".join(parts)


def string_io(stream):
    """Write deltas to a `StringIO`: linear."""
    buffer = io.StringIO()
    for delta in stream:
        buffer.write(delta)
    return buffer.getvalue()


def byte_array(stream):
    """Extend a `bytearray`, which keeps spare room: linear."""
    buffer = bytearray()
    for delta in stream:
        buffer += delta.encode()
    return buffer


def one_dict_each(stream):
    """Make one dict per delta: linear, with page faults for new memory."""
    return [{"delta": delta} for delta in stream]


def a_growing_set(stream):
    """Add deltas to a set: linear, as it quadruples when full, at one delta in thousands."""
    return {(index, delta) for index, delta in enumerate(stream)}


def costly_set_up(stream):
    """Work for about 200 us before the first delta: linear."""
    _spin(40)
    return "".join(stream)


def costly_deltas(stream):
    """Work for about 150 us per delta, like the stream state of an SDK: linear."""
    parts = []
    for delta in stream:
        _spin(30)
        parts.append(delta)
    return "".join(parts)


def _spin(rounds: int) -> int:
    # A round takes about 5 us on a recent machine, and took 8 us on a shared core (CPython 3.11.7).
    return sum(sum(range(750)) for _ in range(rounds))


class Reply:
    """Reply whose text is an attribute, which CPython cannot extend in place: quadratic."""

    def __init__(self) -> None:
        self.text = ""

    def feed(self, delta: str) -> None:
        """Append a delta, which copies all the text before it."""
        self.text += delta


def attribute(stream):
    """Extend a string attribute: quadratic."""
    reply = Reply()
    for delta in stream:
        reply.feed(delta)
    return reply.text


def dict_item(stream):
    """Extend a string in a dict: quadratic, as CPython cannot extend the item in place."""
    message = {"content": ""}
    for delta in stream:
        message["content"] += delta
    return message


def closure_cell(stream):
    """Extend a string that a closure shares: quadratic since Python 3.11."""
    text = ""

    def feed(delta):
        nonlocal text
        text += delta

    for delta in stream:
        feed(delta)
    return text


def f_string(stream):
    """Make a new string of all the text per delta with an f-string: quadratic."""
    text = ""
    for delta in stream:
        text = f"{text}{delta}"
    return text


def immutable_bytes(stream):
    """Extend `bytes`, which makes a new object per delta: quadratic."""
    data = b""
    for delta in stream:
        data += delta.encode()
    return data


def kept_snapshot(stream):
    """Extend a string that a second name refers to: quadratic, as this forces a copy.

    The earlier copy is freed when the new one is made.
    """
    text = before = ""
    for delta in stream:
        before = text
        text += delta
    return before, text


def rescanned(stream):
    """Search all the text per delta for a missing fence: quadratic, without allocations."""
    text, fences = "", 0
    for delta in stream:
        text += delta
        fences += "```" in text
    return fences


def reparsed(stream):
    """Parse all the arguments again per delta: quadratic."""
    buffer, arguments = "", None
    for delta in stream:
        buffer += delta
        arguments = loads(buffer)
    return arguments


# -- consumers of earlier benchmarks (docs/benchmarks.md) that got a wrong or an unclear verdict,
# -- or that were hard to blame


def framed(stream):
    """Pack frames into one buffer, and unpack them by offset at the end: linear."""
    buffer, texts, offset = bytearray(), [], 0
    for delta in stream:
        data = delta.encode()
        buffer += struct.pack(">I", len(data)) + data
    view = memoryview(buffer)
    while offset < len(view):
        (size,) = struct.unpack_from(">I", view, offset)
        texts.append(bytes(view[offset + 4 : offset + 4 + size]).decode())
        offset += 4 + size
    return texts


def drawn_by_lot(stream):
    """Sort all deltas by a random ticket after the last one: n log n, over scattered objects."""
    lots = random.Random(7)  # noqa: S311 - no secret
    deltas = list(stream)
    tickets = sorted((lots.random(), index) for index in range(len(deltas)))
    return [deltas[index] for _, index in tickets]


def merged_at_the_end(stream):
    """Collect sorted pages of 32 events, and merge them after the last delta: n log n."""
    pages = [[]]
    for index, delta in enumerate(stream):
        if len(pages[-1]) == 32:
            pages.append([])
        pages[-1].append((index * 7919 % 1000003, delta))
    return [delta for _, delta in heapq.merge(*map(sorted, pages))]


def removed_by_value(stream):
    """Remove items by value from the end of a list, after the last delta: quadratic."""
    pending = [index for index, _ in enumerate(stream)]
    for index in reversed(range(len(pending))):
        pending.remove(index)
    return pending


def generated_code(stream):
    """Parse a program after its last line, and take the texts out of the tree: linear."""
    lines = [f"say({delta!r}, line={index})" for index, delta in enumerate(stream)]
    tree = ast.parse("\n".join(lines))
    return [call.value.args[0].value for call in tree.body]


Case = tuple[Any, dict[str, Any]]


def by_name(*consumers: Any) -> dict[str, Case]:
    """Return a table of these consumers by name, without arguments for `measure_growth`."""
    return {consume.__name__: (consume, {}) for consume in consumers}


LINEAR = by_name(
    local_string,
    list_and_join,
    string_io,
    byte_array,
    one_dict_each,
    a_growing_set,
    costly_set_up,
    costly_deltas,
    framed,
    merged_at_the_end,
    drawn_by_lot,
    generated_code,
)
SUPERLINEAR = by_name(
    attribute,
    dict_item,
    closure_cell,
    f_string,
    immutable_bytes,
    kept_snapshot,
    rescanned,
    removed_by_value,
)
SUPERLINEAR["reparsed_string"] = reparsed, {"delta": string_arguments}
SUPERLINEAR["reparsed_objects"] = reparsed, {"delta": object_arguments}


def cases() -> Iterator[tuple[str, Any, dict[str, Any], str]]:
    """Yield each consumer's name, the consumer, its arguments, and the right verdict."""
    for expected, table in (("within", LINEAR), ("exceeded", SUPERLINEAR)):
        for name, (consume, arguments) in table.items():
            yield name, consume, arguments, expected

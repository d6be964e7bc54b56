"""Consumers of a stream whose growth is known: what the verdict is tested and benchmarked on.

`LINEAR` and `SUPERLINEAR` map a name to `(consume, keyword arguments of measure_growth)`.
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
    """CPython extends a string that nothing else refers to in place."""
    text = ""
    for delta in stream:
        text += delta
    return text


def list_and_join(stream):
    """The remedy."""
    parts = []
    for delta in stream:
        parts.append(delta)
    return "".join(parts)


def string_io(stream):
    """A buffer made for it."""
    buffer = io.StringIO()
    for delta in stream:
        buffer.write(delta)
    return buffer.getvalue()


def byte_array(stream):
    """Extended in place, with room to spare."""
    buffer = bytearray()
    for delta in stream:
        buffer += delta.encode()
    return buffer


def one_dict_each(stream):
    """One object per delta: memory that was never used before costs page faults."""
    return [{"delta": delta} for delta in stream]


def a_growing_set(stream):
    """A set quadruples when it is full: one delta in thousands pays for that."""
    return {(index, delta) for index, delta in enumerate(stream)}


def costly_set_up(stream):
    """200 us before the first delta, at every run."""
    _spin(40)
    return "".join(stream)


def costly_deltas(stream):
    """150 us a delta, as a current SDK's stream state takes."""
    parts = []
    for delta in stream:
        _spin(30)
        parts.append(delta)
    return "".join(parts)


def _spin(rounds: int) -> int:
    # About 5 us a round, on a machine of today.
    return sum(sum(range(750)) for _ in range(rounds))


class Reply:
    """Quadratic: an attribute cannot be extended in place."""

    def __init__(self) -> None:
        self.text = ""

    def feed(self, delta: str) -> None:
        """Copy all of the text, and the delta."""
        self.text += delta


def attribute(stream):
    """Collects in an attribute."""
    reply = Reply()
    for delta in stream:
        reply.feed(delta)
    return reply.text


def dict_item(stream):
    """Nor can a dict's item."""
    message = {"content": ""}
    for delta in stream:
        message["content"] += delta
    return message


def closure_cell(stream):
    """Nor, since 3.11, a variable that a closure shares."""
    text = ""

    def feed(delta):
        nonlocal text
        text += delta

    for delta in stream:
        feed(delta)
    return text


def f_string(stream):
    """A new string each time."""
    text = ""
    for delta in stream:
        text = f"{text}{delta}"
    return text


def immutable_bytes(stream):
    """`bytes +=` makes a new object."""
    data = b""
    for delta in stream:
        data += delta.encode()
    return data


def kept_snapshot(stream):
    """A second reference forces the copy; the one before it is freed as the new one is made."""
    text = before = ""
    for delta in stream:
        before = text
        text += delta
    return before, text


def rescanned(stream):
    """Looks through all the text for what is not in it, and allocates nothing."""
    text, fences = "", 0
    for delta in stream:
        text += delta
        fences += "```" in text
    return fences


def reparsed(stream):
    """Parses all the arguments again on every delta."""
    buffer, arguments = "", None
    for delta in stream:
        buffer += delta
        arguments = loads(buffer)
    return arguments


# -- from earlier twenties: a false alarm, one that was inconclusive, and one that was hard to blame


def framed(stream):
    """Packs frames into one buffer, and unpacks them at the end, by offset."""
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
    """Puts all deltas in an order drawn by lot, when all have come, to show a sample."""
    lots = random.Random(7)  # noqa: S311 - not a secret
    deltas = list(stream)
    tickets = sorted((lots.random(), index) for index in range(len(deltas)))
    return [deltas[index] for _, index in tickets]


def merged_at_the_end(stream):
    """Puts events into pages of 32, and merges the pages by rank when all has come."""
    pages = [[]]
    for index, delta in enumerate(stream):
        if len(pages[-1]) == 32:
            pages.append([])
        pages[-1].append((index * 7919 % 1000003, delta))
    return [delta for _, delta in heapq.merge(*map(sorted, pages))]


def removed_by_value(stream):
    """Strikes what is done off a list, from its end, when all has come."""
    pending = [index for index, _ in enumerate(stream)]
    for index in reversed(range(len(pending))):
        pending.remove(index)
    return pending


def generated_code(stream):
    """Parses a program when all its lines have come, and takes the texts out of the tree."""
    lines = [f"say({delta!r}, line={index})" for index, delta in enumerate(stream)]
    tree = ast.parse("\n".join(lines))
    return [call.value.args[0].value for call in tree.body]


Case = tuple[Any, dict[str, Any]]


def by_name(*consumers: Any) -> dict[str, Case]:
    """Make a table of them, with no terms of their own."""
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
    """Every case, with the verdict that is right for it."""
    for expected, table in (("within", LINEAR), ("exceeded", SUPERLINEAR)):
        for name, (consume, terms) in table.items():
            yield name, consume, terms, expected

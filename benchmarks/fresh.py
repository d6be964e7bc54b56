"""Twenty consumers that were written after the method was frozen: nobody tuned it for them.

If `pytest_streamperf/growth/fit.py` changes, these are used up: write twenty others. (So they are:
they were first run on 2026-11-21, and `fit.py` changed on the same day. What is quoted as out of
sample needs new ones.)
"""

import asyncio
import copy
import dataclasses
import functools
import html
import io
import operator
import re
import zlib

from benchmarks.accumulators import by_name

# -- linear


def sse_lines(stream):
    """Reads the lines of an event stream from bytes that arrive in pieces."""
    rest, events = b"", []
    for index, delta in enumerate(stream):
        rest += b"data: " + delta.encode() + (b"\n\n" if index % 3 == 0 else b"\n")
        *lines, rest = rest.split(b"\n")
        events += [line[6:] for line in lines if line.startswith(b"data:")]
    return events


def fences(stream):
    """Counts fences in what is new, with what a fence may have begun with before it."""
    tail, found = "", 0
    for delta in stream:
        found += (tail + delta).count("```")
        tail = (tail + delta)[-2:]
    return found


def escaped(stream):
    """Escapes each delta by itself."""
    out = io.StringIO()
    for delta in stream:
        out.write(html.escape(delta))
    return out.getvalue()


def tool_calls(stream):
    """Collects the arguments of parallel calls by index, and joins them at the end."""
    calls = {}
    for index, delta in enumerate(stream):
        calls.setdefault(index % 4, {"name": "", "parts": []})["parts"].append(delta)
    return {index: "".join(call["parts"]) for index, call in calls.items()}


@dataclasses.dataclass(slots=True)
class _Event:
    index: int
    text: str


def typed_events(stream):
    """Makes an event of each delta, and folds them at the end."""
    events = [_Event(index, delta) for index, delta in enumerate(stream)]
    return "".join(event.text for event in sorted(events, key=lambda event: -event.index))


def ring(stream):
    """Keeps the last hundred."""
    kept = [""] * 100
    for index, delta in enumerate(stream):
        kept[index % 100] = delta
    return "".join(kept)


async def through_a_queue(stream):
    """Hands each delta from one task to another."""
    queue = asyncio.Queue(maxsize=8)

    async def produce():
        async for delta in stream:
            await queue.put(delta)
        await queue.put(None)

    async with asyncio.TaskGroup() as group:
        group.create_task(produce())
        parts = []
        while (delta := await queue.get()) is not None:
            parts.append(delta)
    return "".join(parts)


def running_checksum(stream):
    """Goes on from the checksum so far."""
    checksum = 0
    for delta in stream:
        checksum = zlib.crc32(delta.encode(), checksum)
    return checksum


def sentences(stream):
    """Cuts sentences off the front of what is pending."""
    pending, done = "", []
    for index, delta in enumerate(stream):
        pending += delta + ("." if index % 11 == 0 else "")
        *whole, pending = re.split(r"(?<=\.)", pending)
        done += whole
    return done


def flushed_often(stream):
    """Writes to a raw buffer, fifty deltas at a time."""
    out, pending = io.BytesIO(), []
    for delta in stream:
        pending.append(delta.encode())
        if len(pending) == 50:  # noqa: PLR2004 - as people write it
            out.write(b"".join(pending))
            pending.clear()
    out.write(b"".join(pending))
    return out.getbuffer().nbytes


# -- superlinear


def rebuilt_message(stream):
    """A new dict, with a new text in it."""
    message = {"role": "assistant", "content": ""}
    for delta in stream:
        message = {**message, "content": message["content"] + delta}
    return message


def reduced(stream):
    """`reduce` holds on to the old text while the new one is made."""
    return functools.reduce(operator.add, stream, "")


def last_line(stream):
    """Splits all lines to look at the last."""
    text, shown = "", ""
    for delta in stream:
        text += delta + "\n"
        shown = text.splitlines()[-1]
    return shown


def closing_tag(stream):
    """Searches for the end of a call from the start, every time."""
    text, closed = "", None
    for delta in stream:
        text += delta
        closed = re.search(r"</tool>\s*$", text)
    return closed


def deep_snapshots(stream):
    """Hands out a deep copy of the state."""
    state, shown = {"parts": []}, None
    for delta in stream:
        state["parts"].append({"text": delta})
        shown = copy.deepcopy(state)
    return shown


def decoded_whole(stream):
    """Decodes all bytes so far."""
    data, text = bytearray(), ""
    for delta in stream:
        data += delta.encode()
        text = data.decode()
    return text


def newest_first(stream):
    """Inserts at the front of a list."""
    parts = []
    for delta in stream:
        parts.insert(0, delta)
    return parts


def taken_from_the_front(stream):
    """Takes one after the other from the front of a list, at the end."""
    parts, taken = list(stream), 0
    while parts:
        taken += len(parts.pop(0))
    return taken


def seen_before(stream):
    """Looks through all events for one like the new one."""
    events, doubled = [], 0
    for index, delta in enumerate(stream):
        doubled += any(event["index"] == index for event in events)
        events.append({"index": index, "text": delta})
    return doubled


@dataclasses.dataclass(frozen=True)
class _State:
    text: str = ""
    count: int = 0


def replaced_state(stream):
    """A frozen state is replaced by the next."""
    state = _State()
    for delta in stream:
        state = dataclasses.replace(state, text=state.text + delta, count=state.count + 1)
    return state


LINEAR = by_name(
    sse_lines,
    fences,
    escaped,
    tool_calls,
    typed_events,
    ring,
    through_a_queue,
    running_checksum,
    sentences,
    flushed_often,
)
SUPERLINEAR = by_name(
    rebuilt_message,
    reduced,
    last_line,
    closing_tag,
    deep_snapshots,
    decoded_whole,
    newest_first,
    taken_from_the_front,
    seen_before,
    replaced_state,
)

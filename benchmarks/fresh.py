"""Twenty consumers that were written after the method was frozen: nobody tuned it for them.

If `pytest_streamperf/growth/fit.py` changes after they ran, these are used up: write twenty others.
(They ran on 2026-11-21, and found one false alarm in `framed`: what is changed for that is to be
judged by new ones.)
"""

import asyncio
import io
import json
import logging
import queue
import re
import sqlite3
import struct
import threading
from collections import OrderedDict
from html.parser import HTMLParser

from benchmarks.accumulators import by_name

# -- linear


def word_counts(stream):
    """Counts the words in what is new."""
    counts = {}
    for delta in stream:
        for found in re.finditer(r"\w+", delta):
            counts[found[0]] = counts.get(found[0], 0) + 1
    return counts


def logged(stream):
    """Logs every delta."""
    out = io.StringIO()
    logger = logging.Logger("stream")  # noqa: LOG001 - its handler goes with it
    logger.addHandler(logging.StreamHandler(out))
    for delta in stream:
        logger.info("delta %r", delta)
    return out.getvalue()


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


async def chained(stream):
    """Passes deltas through three async generators, and lets others run now and then."""

    async def numbered(deltas):
        index = 0
        async for delta in deltas:
            yield index, delta
            index += 1

    async def polite(events):
        async for index, delta in events:
            if index % 10 == 0:
                await asyncio.sleep(0)
            yield delta

    return "".join([delta.upper() async for delta in polite(numbered(stream))])


def recently_used(stream):
    """A cache of 256, the least recently used thrown out."""
    cache = OrderedDict()
    for index, delta in enumerate(stream):
        key = index * index % 1021
        cache[key] = delta
        cache.move_to_end(key)
        if len(cache) > 256:  # noqa: PLR2004 - as people write it
            cache.popitem(last=False)
    return cache


def json_lines(stream):
    """One line of JSON each, joined at the end."""
    lines = [json.dumps({"index": index, "delta": delta}) for index, delta in enumerate(stream)]
    return "\n".join(lines)


class _Texts(HTMLParser):
    def __init__(self):
        super().__init__()
        self.texts = []

    def handle_data(self, data):
        self.texts.append(data)


def parsed_as_it_comes(stream):
    """Feeds an incremental parser."""
    parser = _Texts()
    for delta in stream:
        parser.feed(f"<p>{delta}</p>")
    return parser.texts


def rendered_rarely(stream):
    """Renders what is new, every 500 deltas."""
    parts, rendered, shown = [], 0, []
    for index, delta in enumerate(stream):
        parts.append(delta)
        if index % 500 == 499:  # noqa: PLR2004 - as people write it
            shown.append("".join(parts[rendered:]).replace("\n", "<br>"))
            rendered = len(parts)
    return shown


def a_worker(stream):
    """Hands every delta to a thread, which may fall behind by 64."""
    deltas, parts = queue.Queue(maxsize=64), []

    def work():
        for delta in iter(deltas.get, None):
            parts.append(delta.strip())  # noqa: PERF401 - as people write it

    thread = threading.Thread(target=work)
    thread.start()
    for delta in stream:
        deltas.put(delta)
    deltas.put(None)
    thread.join()
    return "".join(parts)


def stored(stream):
    """A row for each delta, in a database in memory."""
    database = sqlite3.connect(":memory:")
    database.execute("create table deltas (number integer primary key, text text)")
    for index, delta in enumerate(stream):
        database.execute("insert into deltas values (?, ?)", (index, delta))
    (count,) = database.execute("select count(*) from deltas").fetchone()
    database.close()
    return count


# -- superlinear


def rejoined(stream):
    """Joins all there is, to show it."""
    parts, shown = [], ""
    for delta in stream:
        parts.append(delta)
        shown = "".join(parts)
    return shown


def normalised(stream):
    """Tidies up all of the text, every time."""
    text = ""
    for delta in stream:
        text = re.sub(r"\s+", " ", text + delta)
    return text


def compared_histories(stream):
    """Keeps the history as it was, to see whether it changed."""
    history, before, changes = [], [], 0
    for delta in stream:
        history.append(delta)
        changes += history != before
        before = list(history)
    return changes


def unshared_bytes(stream):
    """What `getvalue` gave away cannot be written to: the next write copies it."""
    buffer, shown = io.BytesIO(), b""
    for delta in stream:
        buffer.write(delta.encode())
        shown = buffer.getvalue()
    return shown


def best_so_far(stream):
    """Looks through all scores for the best."""
    scores, best = {}, 0
    for index, _ in enumerate(stream):
        scores[index] = index * 7919 % 10007
        best = max(scores.values())
    return best


def removed_by_value(stream):
    """Strikes what is done off a list, from its end, when all has come."""
    pending = [index for index, _ in enumerate(stream)]
    for index in reversed(range(len(pending))):
        pending.remove(index)
    return pending


async def yielded_histories(stream):
    """Hands out all events so far, each time."""
    events = []
    async for delta in stream:
        events.append(delta)
        yield tuple(events)


def merged_dicts(stream):
    """A new state from the old one, by number."""
    state = {}
    for index, delta in enumerate(stream):
        state = {**state, index: delta}
    return state


def sorted_again(stream):
    """Sorts all events by time, though only one is new."""
    events = []
    for index, delta in enumerate(stream):
        events.append((index, delta))
        events.sort(key=lambda event: event[0])
    return events


def worker_rejoins(stream):
    """A thread that is handed deltas joins all it has, each time."""
    deltas, parts, shown = queue.Queue(), [], [""]

    def work():
        for delta in iter(deltas.get, None):
            parts.append(delta)
            shown[0] = "".join(parts)

    thread = threading.Thread(target=work)
    thread.start()
    for delta in stream:
        deltas.put(delta)
    deltas.put(None)
    thread.join()
    return shown[0]


LINEAR = by_name(
    word_counts,
    logged,
    framed,
    chained,
    recently_used,
    json_lines,
    parsed_as_it_comes,
    rendered_rarely,
    a_worker,
    stored,
)
SUPERLINEAR = by_name(
    rejoined,
    normalised,
    compared_histories,
    unshared_bytes,
    best_so_far,
    removed_by_value,
    yielded_histories,
    merged_dicts,
    sorted_again,
    worker_rejoins,
)

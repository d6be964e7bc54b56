"""Twenty consumers that were written after the method was frozen: nobody tuned it for them.

If `pytest_streamperf/growth/estimation.py` changes after they ran, these are used up: write twenty
others.
"""

import asyncio
import pickle
import re
import sqlite3
import textwrap
import zlib
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import ContextVar, copy_context
from graphlib import TopologicalSorter
from hashlib import sha256
from heapq import heapify, heappush, heappushpop
from itertools import islice
from xml.etree.ElementTree import Element, SubElement

from tests.data.accumulators import by_name

_TURN = ContextVar("turn", default=0)
_TRAIL = ContextVar("trail", default=())

# -- linear


def redacted(stream):
    """Blots keys out, and holds the last 40 characters back: they may be the start of a key."""
    key, held = re.compile(r"\b(?:sk|ghp)[-_]\w{8,30}"), ""
    for delta in stream:
        held = key.sub("[key]", held + delta)
        if len(held) > 40:  # noqa: PLR2004 - as people write it
            yield held[:-40]
            held = held[-40:]
    yield held


def running_median(stream):
    """The median of all delays so far, at any time: a heap of the low, and one of the high."""
    low, high, medians = [], [], []
    for index, delta in enumerate(stream):
        delay = index * 7919 % 1009 + len(delta)
        if len(low) == len(high):
            heappush(low, -heappushpop(high, delay))
        else:
            heappush(high, -heappushpop(low, -delay))
        medians.append(-low[0])
    return medians


def compressed(stream):
    """Sends what compresses well in blocks, as a server does, and unpacks each as a browser."""
    packer, unpacker = zlib.compressobj(), zlib.decompressobj()
    sent, received = 0, 0
    for delta in stream:
        if block := packer.compress(delta.encode()):
            sent += len(block)
            received += len(unpacker.decompress(block))
    block = packer.flush()
    return sent + len(block), received + len(unpacker.decompress(block))


def laid_out(stream):
    """Fills a paragraph when all its words are there."""
    return textwrap.fill("".join(stream), width=72, subsequent_indent="  ")


def steps_in_order(stream):
    """A plan whose steps each wait for two earlier ones: put in order when it is complete."""
    plan, texts = TopologicalSorter(), []
    for index, delta in enumerate(stream):
        plan.add(index, *{index // 2, index // 3} - {index})
        texts.append(delta)
    return [texts[step] for step in plan.static_order()]


def hash_tree(stream):
    """A transcript's proof: hashes deltas, then pairs of hashes, until one is left."""
    level = [delta.encode() for delta in stream]
    while len(level) > 1:
        pairs = zip(level[::2], [*level[1::2], b""], strict=False)
        level = [sha256(left + right).digest() for left, right in pairs]
    return level


def turns_in_context(stream):
    """A context for each delta, which is a copy of the one before, with one variable set."""

    def take(delta):
        _TURN.set(_TURN.get() + 1)
        return len(delta)

    context, lengths = copy_context(), []
    for delta in stream:
        context = context.copy()
        lengths.append(context.run(take, delta))
    return context[_TURN] if lengths else 0, lengths


async def checked_in_batches(stream):
    """Asks a guard about 32 deltas at once, no more than 8 of them at a time."""
    slots, batch, allowed = asyncio.Semaphore(8), [], []

    async def check(delta):
        async with slots:
            await asyncio.sleep(0)
            return delta.isascii()

    async for delta in stream:
        batch.append(delta)
        if len(batch) == 32:  # noqa: PLR2004 - as people write it
            allowed.extend(await asyncio.gather(*map(check, batch)))
            batch.clear()
    allowed.extend(await asyncio.gather(*map(check, batch)))
    return allowed


def stuck_in_a_loop(stream):
    """Looks for a model that says the same three words again and again, in its last 200."""
    last, recent, seen, warnings = deque(maxlen=3), deque(), Counter(), 0
    for delta in stream:
        last.append(delta.strip())
        triple = " ".join(last)
        recent.append(triple)
        seen[triple] += 1
        if len(recent) > 200:  # noqa: PLR2004 - as people write it
            oldest = recent.popleft()
            seen[oldest] -= 1
            if not seen[oldest]:
                del seen[oldest]
        warnings += seen[triple] > 8  # noqa: PLR2004 - as people write it
    return warnings


def guarded_by_a_pool(stream):
    """Has threads look through 64 deltas each, and collects what they found at the end."""
    rude, batch, found = re.compile(r"\b(?:damn|darn|heck)\b"), [], []
    with ThreadPoolExecutor(max_workers=2) as pool:
        for delta in stream:
            batch.append(delta)
            if len(batch) == 64:  # noqa: PLR2004 - as people write it
                found.append(pool.submit(rude.findall, "".join(batch)))
                batch.clear()
        found.append(pool.submit(rude.findall, "".join(batch)))
    return [word for future in found for word in future.result()]


# -- superlinear


def trail_in_context(stream):
    """A context variable holds all steps so far, in a tuple, as nobody else may change it."""

    def follow():
        for delta in stream:
            _TRAIL.set((*_TRAIL.get(), delta))
        return _TRAIL.get()

    return copy_context().run(follow)


def packed_number(stream):
    """Keeps 64 bits for each delta, in one large number."""
    packed = 1
    for delta in stream:
        packed = packed << 64 | zlib.crc32(delta.encode())
    return packed.bit_length()


async def polled_tasks(stream):
    """Starts a task every 10 deltas, and asks which of all tasks are done: none is, as yet."""
    over, tasks, number, early = asyncio.Event(), [], 0, 0
    async for _ in stream:
        if number % 10 == 0:
            tasks.append(asyncio.create_task(over.wait()))
            done, _ = await asyncio.wait(tasks, timeout=0)
            early += len(done)
        number += 1
    over.set()
    return early, sum(await asyncio.gather(*tasks))


def row_appended_to(stream):
    """A message is a row of a table: 4 deltas are appended to it, and it says how long it is."""
    append = "UPDATE messages SET content = content || ? WHERE number = 1 RETURNING length(content)"
    pending, lengths = [], []
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.execute("CREATE TABLE messages (number INTEGER PRIMARY KEY, content TEXT)")
        database.execute("INSERT INTO messages VALUES (1, '')")
        for delta in stream:
            pending.append(delta)
            if len(pending) == 4:  # noqa: PLR2004 - as people write it
                lengths.extend(database.execute(append, ("".join(pending),)).fetchall())
                pending.clear()
    return lengths, pending


def cancelled_timers(stream):
    """A timer for each delta; every 20th is cancelled, and the others made a heap again."""
    timers = []
    for index, delta in enumerate(stream):
        timer = (index * 7919 % 100003, index, delta)
        heappush(timers, timer)
        if index % 20 == 0:
            timers.remove(timer)
            heapify(timers)
    return timers


async def resumed_after(stream):
    """Every other delta a reader comes back, who is sent all that comes after what was read."""
    log, read = [], 0
    async for delta in stream:
        log.append(delta)
        if len(log) % 2 == 0:
            missed = list(islice(log, read, None))
            read += len(missed)
            yield "".join(missed)
    yield "".join(islice(log, read, None))


def unclosed_tags(stream):
    """Looks for citations when the reply is over: each of those there are was never closed."""
    pieces = [f"[[{delta}" if not index % 20 else delta for index, delta in enumerate(stream)]
    return re.findall(r"\[\[(.*?)\]\]", "".join(pieces), re.DOTALL)


def lines_cut_off(stream):
    """Writes a log, and at the end cuts one line after another off its start."""
    log = "".join(f"12:00:00.000 INFO agent.stream.delta text={delta!r}\n" for delta in stream)
    lengths = []
    while log:
        line, _, log = log.partition("\n")
        lengths.append(len(line))
    return lengths


def found_by_path(stream):
    """A document gets a part every 6 deltas: looks for the only one that is still open."""
    document = Element("reply")
    SubElement(document, "part", state="open").text = ""
    pending = []
    for delta in stream:
        pending.append(delta)
        if len(pending) == 6:  # noqa: PLR2004 - as people write it
            part = document.find("./part[@state='open']")
            part.text = "".join(pending)
            part.set("state", "done")
            SubElement(document, "part", state="open").text = ""
            pending.clear()
    return len(document), pending


def checkpointed(stream):
    """Every 50 deltas a thread pickles all that there is, so that a run can be taken up again."""
    history, size = [], 0
    with ThreadPoolExecutor(max_workers=1) as saver:
        for index, delta in enumerate(stream, 1):
            history.append({"step": index, "text": delta})
            if index % 50 == 0:
                size = len(saver.submit(pickle.dumps, history).result())
    return size


LINEAR = by_name(
    redacted,
    running_median,
    compressed,
    laid_out,
    steps_in_order,
    hash_tree,
    turns_in_context,
    checked_in_batches,
    stuck_in_a_loop,
    guarded_by_a_pool,
)
SUPERLINEAR = by_name(
    trail_in_context,
    packed_number,
    polled_tasks,
    row_appended_to,
    cancelled_timers,
    resumed_after,
    unclosed_tags,
    lines_cut_off,
    found_by_path,
    checkpointed,
)

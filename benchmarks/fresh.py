"""Twenty consumers that were written after the method was frozen: nobody tuned it for them.

If `pytest_streamperf/growth/fit.py` changes after they ran, these are used up: write twenty others.
"""

import asyncio
import csv
import io
import json
import os
import sched
import sqlite3
import sys
import tempfile
import zipfile
from collections import Counter, deque
from contextlib import closing
from difflib import get_close_matches
from functools import partial
from html.parser import HTMLParser
from queue import SimpleQueue
from statistics import quantiles, stdev
from threading import Thread
from weakref import WeakValueDictionary

from benchmarks.accumulators import by_name

_TOOLS = """
agg ask awk cat chop cmp cp curl cut date diff dig du echo exit find fmt fold git grep head jq
join kill less ln look ls make man mv nl od ping ps pwd rm sed seq sort split stat tail tar tee
test top tr tree type uniq vim wait wc wget when who xxd yes zip
"""

# -- linear


def even_lines(stream):
    """Breaks lines when it has all words, as TeX does: so that no line is much too short."""
    words = [delta.strip() for delta in stream]
    costs, starts = [0], [0]
    for end in range(1, len(words) + 1):
        width, best = -1, None
        for start in range(end - 1, -1, -1):
            width += len(words[start]) + 1
            if width > 60 and best is not None:  # noqa: PLR2004 - as people write it
                break
            cost = costs[start] + (60 - width) ** 2
            if best is None or cost < best[0]:
                best = cost, start
        costs.append(best[0])
        starts.append(best[1])
    lines, end = [], len(words)
    while end:
        lines.append(" ".join(words[starts[end] : end]))
        end = starts[end]
    lines.reverse()
    return lines


def shown_when_due(stream):
    """A time for each delta to be shown at, in no order: all wait until the reply is over."""
    now, shown = 0, []

    def wait(duration):
        nonlocal now
        now += duration

    planner = sched.scheduler(lambda: now, wait)
    for index, delta in enumerate(stream):
        planner.enterabs(index * 7919 % 100003, 1, shown.append, (delta,))
    planner.run()
    return now, shown


def read_back(stream):
    """Writes the rows of a table as they come, and reads them all when there are no more."""
    table = io.StringIO(newline="")
    rows = csv.writer(table)
    for index, delta in enumerate(stream):
        rows.writerow((index, delta, len(delta)))
    table.seek(0)
    return [text for _, text, _ in csv.reader(table)]


async def with_deadlines(stream):
    """A minute's time for each delta, and a word with the event loop after every 64."""
    deltas, texts = aiter(stream), []
    while True:
        async with asyncio.timeout(60):
            delta = await anext(deltas, None)
        if delta is None:
            return texts
        texts.append(delta)
        if len(texts) % 64 == 0:
            await asyncio.sleep(0)


def through_a_pipe(stream):
    """Writes lines of JSON to a pipe, from which a thread reads them."""
    outlet, inlet = os.pipe()
    texts = []

    def read():
        with os.fdopen(outlet, encoding="utf-8") as lines:
            texts.extend(json.loads(line)["text"] for line in lines)

    reader = Thread(target=read)
    reader.start()
    try:
        with os.fdopen(inlet, "w", encoding="utf-8") as pipe:
            for delta in stream:
                print(json.dumps({"text": delta}), file=pipe)
    finally:
        reader.join()
    return texts


def percentiles(stream):
    """Hands out how delays were spread among the last 500 deltas, and forgets these."""
    delays = []
    for index, delta in enumerate(stream):
        delays.append(index * 7919 % 1009 + len(delta))
        if len(delays) == 500:  # noqa: PLR2004 - as people write it
            cuts = quantiles(delays, n=100)
            yield cuts[49], cuts[94], stdev(delays)
            delays.clear()


def zipped(stream):
    """An archive with a member for each delta, and the directory of them at the end."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for index, delta in enumerate(stream):
            archive.writestr(zipfile.ZipInfo(f"deltas/{index:06}.txt"), delta)
    return len(buffer.getvalue())


def tools_guessed(stream):
    """Which tool may be meant: compares the first letters with the names of those there are."""
    tools, meant = _TOOLS.split(), Counter()
    for delta in stream:
        meant.update(get_close_matches(delta.strip()[:3], tools, cutoff=0.5))
    return meant


def spooled(stream):
    """Writes to memory first, and to a temporary file from 64 KB on; reads it at the end."""
    with tempfile.SpooledTemporaryFile(max_size=1 << 16) as spool:
        for delta in stream:
            spool.write(delta.encode())
        spool.seek(0)
        return sum(block.count(b" ") for block in iter(partial(spool.read, 4096), b""))


class _Handle:
    """What somebody may hold of a delta."""

    def __init__(self, number, delta):
        self.number = number
        self.delta = delta


def handles(stream):
    """A registry that keeps nothing alive: everything leaves it when the reply is let go."""
    registry, held = WeakValueDictionary(), []
    for number, delta in enumerate(stream):
        handle = registry[f"delta-{number}"] = _Handle(number, delta)
        held.append(handle)
    handle, registered = None, len(registry)
    held.clear()
    return registered, len(registry)


# -- superlinear


def all_answered(stream):
    """A call, and its answer, every other delta: asks whether all calls have an answer."""
    called, answered, complete = set(), set(), 0
    for index, _ in enumerate(stream):
        call = f"call-{index // 2}"
        if index % 2:
            answered.add(call)
            complete += called <= answered
        else:
            called.add(call)
    return complete


def decoded_early(stream):
    """Tries to decode each event, of 2 deltas, before its last byte is there, and after it."""
    decoder, pending = json.JSONDecoder(), []
    body, position, events = "", 0, []
    for delta in stream:
        pending.append(delta)
        if len(pending) < 2:  # noqa: PLR2004 - as people write it
            continue
        event = json.dumps({"text": "".join(pending)})
        pending.clear()
        for piece in (event[:-1], event[-1:]):
            body += piece
            try:
                decoded, position = decoder.raw_decode(body, position)
            except json.JSONDecodeError:
                continue
            events.append(decoded["text"])
    return events, pending


def oldest_first(stream):
    """Takes what waits in a dict out of it at the end, the oldest first."""
    waiting = {f"delta-{index}": delta for index, delta in enumerate(stream)}
    sent = []
    while waiting:
        oldest = next(iter(waiting))
        sent.append(waiting.pop(oldest))
    return sent


def paged_by_offset(stream):
    """Stores all deltas, then reads pages of 5 of them by how many come before the page."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.execute("CREATE TABLE deltas (number INTEGER PRIMARY KEY, content TEXT)")
        for delta in stream:
            database.execute("INSERT INTO deltas (content) VALUES (?)", (delta,))
        query, pages = "SELECT content FROM deltas ORDER BY number LIMIT 5 OFFSET ?", []
        while page := database.execute(query, (5 * len(pages),)).fetchall():
            pages.append(page)
    return pages


async def stopped_listening(stream):
    """Every 4 deltas one more who wants to know of an abort, until all no longer do."""
    aborted, listeners, number = asyncio.get_running_loop().create_future(), [], 0

    def abort(_text, _future):
        raise AssertionError

    async for delta in stream:
        if number % 4 == 0:
            listener = partial(abort, delta)
            aborted.add_done_callback(listener)
            listeners.append(listener)
        number += 1
    return sum(aborted.remove_done_callback(listener) for listener in listeners)


def weighed(stream):
    """A thread keeps the history, and works out how much memory that takes, every 20 deltas."""
    waiting, history, weights = SimpleQueue(), [], []

    def keep():
        while (delta := waiting.get()) is not None:
            history.append(delta)
            if len(history) % 20 == 0:
                weights.append(sum(map(sys.getsizeof, history)))

    keeper = Thread(target=keep)
    keeper.start()
    try:
        for delta in stream:
            waiting.put(delta)
    finally:
        waiting.put(None)
        keeper.join()
    return weights


def favourite_words(stream):
    """Hands out the three words that were there most often, every 50 deltas."""
    words = []
    for delta in stream:
        words.append(delta.strip())
        if len(words) % 50 == 0:
            yield Counter(words).most_common(3)


def thoughts_in_a_comment(stream):
    """Feeds a parser of HTML, 4 deltas at a time, what is all in one comment."""
    parser, pending, thoughts = HTMLParser(), [], []
    parser.handle_comment = thoughts.append
    parser.feed("<p><!-- ")
    for delta in stream:
        pending.append(delta)
        if len(pending) == 4:  # noqa: PLR2004 - as people write it
            parser.feed("".join(pending))
            pending.clear()
    parser.feed(f"{''.join(pending)} --></p>")
    parser.close()
    return thoughts


def one_after_another(stream):
    """Each error is raised while the one before is handled, so that the last leads to all."""
    failure = ValueError("the reply was cut off")
    for index, delta in enumerate(stream):
        if index % 2:
            continue
        try:
            try:
                raise failure
            except ValueError:
                raise ValueError(delta)  # noqa: B904 - as people write it
        except ValueError as error:
            failure.__traceback__ = None
            failure = error
    failure.__traceback__ = None
    return failure


def into_the_middle(stream):
    """Puts each delta halfway into what still waits to be said."""
    waiting = deque()
    for delta in stream:
        waiting.insert(len(waiting) // 2, delta)
    return waiting


LINEAR = by_name(
    even_lines,
    shown_when_due,
    read_back,
    with_deadlines,
    through_a_pipe,
    percentiles,
    zipped,
    tools_guessed,
    spooled,
    handles,
)
SUPERLINEAR = by_name(
    all_answered,
    decoded_early,
    oldest_first,
    paged_by_offset,
    stopped_listening,
    weighed,
    favourite_words,
    thoughts_in_a_comment,
    one_after_another,
    into_the_middle,
)

"""A stream that stutters: a loop that is held, deltas that wait, and a transcript that is kept."""

import asyncio
import time

from pytest_streamperf import TokenStream


def highlight(text):
    time.sleep(0.06)  # a library that takes its time
    return text.upper()


def test_the_loop_stays_free(stall_watch):
    async def main():
        with stall_watch() as watch:
            async for delta in TokenStream(tokens=5, every=0.01):
                highlight(delta)
        return watch

    asyncio.run(main()).assert_smooth(max_stall=0.05)


def test_deltas_come_on_time(virtual_clock, stall_watch):
    stream = TokenStream(tokens=3_000, every=0.05)
    with stall_watch(of=stream) as watch:
        for number, _ in enumerate(stream):
            if number == 1_000:
                time.sleep(2)  # it waits for something else
    watch.assert_smooth(max_first=0.1, max_gap=0.2)


def test_nothing_is_kept(stall_watch):
    with stall_watch(peak_memory=True) as watch:
        transcript = []
        for delta in TokenStream(tokens=20_000):
            transcript.append({"delta": delta})  # noqa: PERF401 - as people write it
    watch.assert_smooth(peak_memory="2MiB")

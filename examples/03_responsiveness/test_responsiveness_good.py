"""A stream that runs smoothly: deltas on time, and a loop that is free for others."""

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
                await asyncio.to_thread(highlight, delta)
        return watch

    asyncio.run(main()).assert_smooth(max_stall=0.05)


def test_deltas_come_on_time(virtual_clock, stall_watch):
    stream = TokenStream(tokens=3_000, every=0.05)
    with stall_watch(of=stream) as watch:
        for _ in stream:
            time.sleep(0.01)
    watch.assert_smooth(max_first=0.1, max_gap=0.2)


def test_nothing_is_kept(stall_watch):
    with stall_watch(peak_memory=True) as watch:
        shown = 0
        for delta in TokenStream(tokens=20_000):
            shown += len(delta)
    watch.assert_smooth(peak_memory="2MiB")

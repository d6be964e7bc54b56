"""Budgets of tests, inside pytest: the plugin measures each test and reports the verdicts.

A budget is the set of limits of a test. It comes from the project's default, a profile, and
markers. Each test here gives test code and settings to `budgeted`, which runs pytest on them in a
process of its own.
"""

from tests.budget_samples import SETTINGS


def test_a_default_is_held_against_what_there_is(budgeted):
    """A default `max_gap` fails each test with a longer gap in a stream, and names its own line.

    The gap between two streams does not count, and a test without a stream passes.
    """
    result = budgeted(
        """
        def test_nothing(): pass

        @pytest.fixture
        def stream(token_stream):
            return token_stream(tokens=3)

        def test_smooth(stream): text_of(stream)

        def test_gap(virtual_clock, stream):
            for _ in stream:
                time.sleep(0.3)

        def test_plain_twin(virtual_clock):
            for _ in TokenStream(3):
                time.sleep(0.3)

        def test_two_streams(virtual_clock):
            text_of(TokenStream(3))
            time.sleep(0.3)
            text_of(TokenStream(3))
        """,
        settings=SETTINGS,
        expect={"passed": 3, "failed": 2},
    )
    result.stdout.fnmatch_lines(
        [
            "streamperf: mode=fail, inconclusive=fail, budgets=default and chat-ui",
            "_* test_gap _*",
            "ResponsivenessExceeded: 300 ms passed between two messages, limit 200 ms",
            "  limit  max_gap 200 ms, pyproject.toml:2",
            "_* test_plain_twin _*",
            "ResponsivenessExceeded: 300 ms passed between two messages, limit 200 ms",
        ]
    )


def test_a_stream_of_a_wider_scope_is_followed_by_each_test_that_reads_it(budgeted):
    """A stream that several tests share is observed during each test that reads it.

    That includes a stream that is older than all tests. A test that reads a stream twice counts
    each message once. After a test no listener stays on the stream.
    """
    result = budgeted(
        """
        OLD = TokenStream(3)

        @pytest.fixture(scope="module")
        def shared(): return TokenStream(3)

        def test_first(shared, virtual_clock): text_of(shared)

        def test_second(shared, virtual_clock):
            for _ in shared: time.sleep(0.3)

        async def test_third(shared, virtual_clock):
            async for _ in shared: await asyncio.sleep(0.3)

        def test_old(virtual_clock):
            for _ in OLD: time.sleep(0.3)

        def test_twice(shared): text_of(shared), text_of(shared)

        def test_left(shared): assert shared.listeners == OLD.listeners == []
        """,
        settings="[tool.streamperf.budgets]\nmax_gap = '200ms'",
        expect={"passed": 3, "failed": 3},
    )
    result.stdout.fnmatch_lines(
        [
            "_* test_second _*",
            "ResponsivenessExceeded: 300 ms passed between two messages, limit 200 ms",
            "_* test_third _*",
            "_* test_old _*",
            "*responsiveness  test_it.py::test_first: 3 messages, longest gap *",
            "*responsiveness  test_it.py::test_twice: 6 messages, longest gap *",
        ]
    )


def test_a_stall_of_an_async_test_is_seen_where_it_runs(budgeted):
    """A profile's `max_stall` finds the line of an async test that blocks its event loop.

    The test that names no profile passes: the default has no `max_stall`.
    """
    result = budgeted(
        """
        @budget(profile="chat-ui")
        async def test_stall():
            time.sleep(0.12)

        class TestMethod:
            @budget(profile="chat-ui")
            async def test_stall(self, token_stream):
                async for _ in token_stream(tokens=2):
                    time.sleep(0.12)

        async def test_default(): time.sleep(0.12)
        """,
        settings=SETTINGS,
        expect={"passed": 1, "failed": 2},
    )
    result.stdout.fnmatch_lines(
        [
            "ResponsivenessExceeded: the event loop stood still for *, limit 50.0 ms",
            "  where  test_it.py:* in test_stall: time.sleep(0.12)",
            "  limit  max_stall 50.0 ms, pyproject.toml:6 (chat-ui)",
        ]
    )


def test_the_examples_of_an_async_test_are_watched(budgeted):
    """The longest stall of all Hypothesis examples counts for an async test.

    Each example runs on the event loop by itself. A default and a marker both find the stall.
    """
    result = budgeted(
        """
        from hypothesis import given, settings, strategies
        examples = settings(max_examples=3, deadline=None, database=None)

        @examples
        @given(n=strategies.integers())
        async def test_stall(n): time.sleep(0.12 * (n == 0))

        class TestAnyIO:
            @pytest.mark.anyio
            @pytest.mark.parametrize("anyio_backend", ["trio"])
            @examples
            @given(n=strategies.integers())
            @budget(max_stall="50ms")
            async def test_trio(self, anyio_backend, n): time.sleep(0.12 * (n == 0))

        @examples
        @given(n=strategies.integers())
        @budget(max_stall="5s")
        async def test_fine(n): await asyncio.sleep(0)
        """,
        "-p",
        "anyio.pytest_plugin",
        settings="[tool.streamperf.budgets]\nmax_stall = '60ms'",
        expect={"passed": 1, "failed": 2},
    )
    result.stdout.fnmatch_lines(
        [
            "ResponsivenessExceeded: the event loop stood still for *, limit 60.0 ms",
            "  where  test_it.py:* in test_stall:",
            "ResponsivenessExceeded: the event loop stood still for *, limit 50.0 ms",
        ]
    )


def test_checks_inside_go_by_the_budget(budgeted):
    """A budget gives limits to the growth checks, the update counters and flush counters of a test.

    A growth check takes its limit and maximum length from the budget. A counter that the test
    asserts on itself is not checked again.
    """
    result = budgeted(
        """
        def quadratic(stream):
            deltas = []
            for delta in stream:
                deltas.append(delta)
                "".join(deltas)

        @budget(max_superlinear="100%", up_to=640)
        def test_growth():
            assert assert_linear(quadratic).measured_to == 640

        @pytest.fixture
        def updates(virtual_clock, token_stream):
            stream = token_stream(tokens=50, every=0.02)
            show = UpdateCounter(of=stream, value=lambda call: call.args[0])
            def run():
                text = ""
                for delta in stream:
                    text += delta
                    show(text)
                return show
            return run

        @budget(updates_every="100ms")
        def test_updates(updates): updates()

        @budget(updates_every="100ms")
        def test_own_words(updates):
            with pytest.raises(AssertionError):
                updates().assert_throttled(every=0.1)

        @budget(flushes_per_second="10/s")
        def test_flushes(virtual_clock, token_stream, flush_counter):
            stream = token_stream(tokens=50, every=0.02)
            push = flush_counter(of=stream).call(len)
            for delta in stream:
                push(delta.encode())
        """,
        expect={"passed": 2, "failed": 2},
    )
    result.stdout.fnmatch_lines(
        [
            "ThrottlingExceeded: text: an update came 20.0 ms after the one before it, *",
            "  limit  updates_every 100 ms, marker, test_it.py:*",
            "ThrottlingExceeded: * flushes *",
            "  limit  flushes_per_second 10/s, marker, test_it.py:*",
        ]
    )


def test_the_whole_process_is_measured(budgeted):
    """A budget limits memory, GC pauses and CPU shares of a test that makes no check itself."""
    result = budgeted(
        """
        @budget(peak_memory="1MiB")
        def test_memory(): bytes(3_000_000)

        @budget(max_gc_pause="1us")
        def test_pause():
            kept = [[] for _ in range(50_000)]
            gc.collect()

        @budget(cpu_share={"json:loads": "1%"})
        def test_share():
            for _ in range(5_000): json.loads("[1, 2, 3]")

        @budget(peak_memory="8MiB", max_gc_pause="10s", cpu_share={"json:loads": 1.0}, rerun=True)
        def test_fine(): json.loads("[]")
        """,
        expect={"passed": 2, "failed": 3},
    )
    result.stdout.fnmatch_lines(
        [
            "ResponsivenessExceeded: 3.0 MB of memory at the peak, limit 1.0 MB",
            "ResponsivenessExceeded: the garbage collector paused for *, limit 1.00 us",
            "ResponsivenessExceeded: json:loads took *% of the CPU time, limit 1%",
        ]
    )


def test_what_disturbs_each_other_is_measured_in_two_runs(budgeted):
    """`rerun` measures memory and stalls in two runs of a test, because tracing slows code down.

    Each run has its own fixtures, and the test's ID names the run.
    """
    result = budgeted(
        """
        @budget(peak_memory="1MiB", max_stall="50ms", rerun=True)
        async def test_it(tmp_path):
            (tmp_path / "once").mkdir()
            kept = bytes(3_000_000)
            time.sleep(0.12)
        """,
        "-v",
        expect={"failed": 2},
    )
    result.stdout.fnmatch_lines(
        [
            "*::test_it?watched? FAILED*",
            "*::test_it?memory? FAILED*",
            "ResponsivenessExceeded: the event loop stood still for *",
            "ResponsivenessExceeded: 3.0 MB of memory at the peak, limit 1.0 MB",
        ]
    )


def test_checks_go_by_the_budget_in_both_runs(budgeted):
    """A growth check takes its maximum length from the budget in both runs of a test."""
    budgeted(
        """
        @budget(up_to=640, peak_memory="64MiB", max_gc_pause="1000s", rerun=True)
        def test_it():
            assert assert_linear("".join, metrics=("calls",)).measured_to == 640
        """,
        expect={"passed": 2},
    )


def test_what_cannot_run_twice_runs_without_the_memory(budgeted):
    """A default that needs two runs leaves `peak_memory` out for a TestCase, which runs only once.

    The listing of budgets says so.
    """
    tests = """
        import unittest

        class TestCase(unittest.TestCase):
            def test_it(self):
                gc.collect()
                self.kept = bytes(9_000_000)
    """
    settings = """
        [tool.streamperf.budgets]
        max_gc_pause = "1000s"
        peak_memory = "1MB"
        rerun = true
    """
    result = budgeted(tests, "-v", settings=settings, expect={"passed": 1})
    result.stdout.fnmatch_lines(["* responsiveness *test_it: *"])
    listed = budgeted(tests, "--streamperf-budgets", settings=settings)
    listed.stdout.fnmatch_lines(["  without peak_memory, for want of a second run*"])


def test_what_a_marker_asks_for_is_measured_or_an_error(budgeted):
    """A limit in a test's own marker fails the test if there is nothing to measure.

    A marker of a class may apply to only some of its tests, so there the limit is skipped.
    """
    result = budgeted(
        """
        @budget(max_stall="50ms")
        def test_no_loop(): pass

        @budget(max_superlinear="10%")
        def test_no_growth(): pass

        @budget(updates_every="100ms")
        def test_no_counter(): pass

        @budget(updates_every="100ms")
        def test_unused_counter(update_counter): update_counter()

        @budget(max_gap="1s")
        def test_no_stream(): pass

        @budget(max_stall="50ms", updates_every="100ms", max_superlinear="10%", max_gap="1s")
        class TestSome:
            def test_it(self): pass
        """,
        expect={"passed": 1, "failed": 5},
    )
    result.stdout.fnmatch_lines(
        [
            "NothingMeasured: the test has nothing that max_stall could be held against",
            "  try    make it async, or use stall_watch where its event loop runs",
            "NothingMeasured: the test has nothing that max_superlinear could be held against",
            "NothingMeasured: the test has nothing that updates_every could be held against",
            "NothingMeasured: the update counter was never called",
            "NothingMeasured: there were no two messages to see a gap between",
        ]
    )


def test_a_function_is_found_by_whatever_name_it_is_called(budgeted):
    """A `cpu_share` limit finds its function also where a test imported it by name.

    The function in a marker has to run. Of the functions in a default, only those that ran are
    checked.
    """
    result = budgeted(
        """
        from json import loads

        @budget(cpu_share={"json:loads": "1%"})
        def test_imported():
            for _ in range(5_000): loads("[1, 2, 3]")

        @budget(cpu_share={"json:loads": "1%"})
        def test_not_called(): pass

        def test_default(): json.dumps([])

        def test_nothing(): pass
        """,
        settings="""[tool.streamperf.budgets]
cpu_share = { "json:loads" = "100%", "json:dumps" = "100%" }""",
        expect={"passed": 2, "failed": 2},
    )
    result.stdout.fnmatch_lines(
        [
            "ResponsivenessExceeded: json:loads took *% of the CPU time, limit 1%",
            "NothingMeasured: json:loads never ran",
            "*responsiveness  test_it.py::test_default: json:dumps *% of CPU",
        ]
    )
    result.stdout.no_fnmatch_line("*test_nothing:*")


def test_a_failure_of_its_own_wins(budgeted):
    """A test that fails by itself keeps its failure, and the summary has its measurements.

    A skipped test has no line in the summary.
    """
    result = budgeted(
        """
        @budget(max_gc_pause="1us")
        def test_fails():
            gc.collect()
            assert 1 == 2

        @budget(max_gc_pause="1us")
        def test_skips():
            gc.collect()
            pytest.skip("not here")

        import unittest
        @budget(max_gc_pause="1us")
        class TestCase(unittest.TestCase):
            def test_case(self):
                gc.collect()
                self.assertEqual(1, 2)
        """,
        expect={"failed": 2, "skipped": 1},
    )
    result.stdout.fnmatch_lines(
        ["E       assert 1 == 2", "*responsiveness  test_it.py::test_fails: *"]
    )
    result.stdout.no_fnmatch_line("*ResponsivenessExceeded*")
    result.stdout.no_fnmatch_line("*test_skips:*")


def test_several_failures_are_told_at_once(budgeted):
    """The first exceeded limit of a test is raised, and the others are notes on that error.

    Each has its own line in the summary.
    """
    result = budgeted(
        """
        @budget(max_gc_pause="1us", updates_every="100ms")
        def test_both(virtual_clock):
            stream = TokenStream(tokens=20, every=0.02)
            show = UpdateCounter(of=stream)
            for delta in stream:
                show(delta)
            gc.collect()
        """,
        expect={"failed": 1},
    )
    result.stdout.fnmatch_lines(
        [
            "ResponsivenessExceeded: the garbage collector paused *",
            "also: *an update came 20.0 ms after the one before it*",
            "*responsiveness  test_it.py::test_both: the garbage collector*",
            "*throttling  test_it.py::test_both: *",
        ]
    )


def test_an_async_test_case_is_watched(budgeted):
    """A budget is enforced on async methods of a TestCase, which unittest calls by itself."""
    result = budgeted(
        """
        import unittest
        class TestIt(unittest.IsolatedAsyncioTestCase):
            @budget(max_stall="50ms")
            async def test_stall(self): time.sleep(0.12)

            @budget(max_gc_pause="1us")
            async def test_pause(self): gc.collect()

            @budget(max_stall="10s")
            async def test_fine(self): self.assertTrue(self)
        """,
        expect={"passed": 1, "failed": 2},
    )
    result.stdout.fnmatch_lines_random(
        [
            "ResponsivenessExceeded: the event loop stood still for *, limit 50.0 ms",
            "ResponsivenessExceeded: the garbage collector paused for *, limit 1.00 us",
        ]
    )


def test_nobody_listens_to_a_stream_whose_test_never_ran(budgeted):
    """A test that a fixture skips leaves no listener on a stream with session scope."""
    budgeted(
        """
        @pytest.fixture(scope="session")
        def shared(): return TokenStream(3)

        @pytest.fixture
        def absent(shared): pytest.skip("not here")

        def test_skipped(absent): pass

        def test_left(shared): assert shared.listeners == []
        """,
        settings=SETTINGS,
        expect={"passed": 1, "skipped": 1},
    )


def test_memory_that_is_no_longer_traced_was_not_measured(budgeted):
    """A test that stops tracemalloc fails, because its memory was not measured to the end."""
    budgeted(
        """
        import tracemalloc
        @budget(peak_memory="1MiB")
        def test_it():
            bytes(3_000_000)
            tracemalloc.stop()
        """,
        expect={"failed": 1},
    ).stdout.fnmatch_lines(["NothingMeasured: memory was no longer traced at the end"])


def test_a_fetch_is_budgeted(budgeted):
    """A default `background_fetch = false` fails a test with a network access.

    A marker with `background_fetch=True` allows the access.
    """
    budgeted(
        """
        import socket
        def fetch():
            with socket.socket() as sock:
                sock.settimeout(0.01)
                sock.connect_ex(("192.0.2.1", 80))

        def test_default(): fetch()

        @budget(background_fetch=True)
        def test_allowed(): fetch()
        """,
        settings="[tool.streamperf.budgets]\nbackground_fetch = false",
        expect={"passed": 1, "failed": 1},
    )

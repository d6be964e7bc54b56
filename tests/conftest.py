"""Fixtures and settings that the whole suite shares."""

import os
import sys
import textwrap
from importlib import import_module

import pytest
from hypothesis import settings

from pytest_streamperf.wire import WireError
from tests.budget_samples import HEAD
from tests.forked_pytest import forks_of_pytest

pytest_plugins = ["pytester"]
pytest.register_assert_rewrite("tests.failure_messages")

# `make test-browser test-neighbours` runs these: they need Chromium and other people's plugins.
collect_ignore = ["browser", "neighbours"]

# Hypothesis tries the same examples in every run, without a time limit: a failure is reproducible.
settings.register_profile("suite", derandomize=True, database=None, deadline=None, max_examples=60)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def _run_forked():
    """Yield the function of `forks_of_pytest`: it runs pytest in a forked process."""
    with forks_of_pytest() as run:
        yield run


@pytest.fixture
def run_alone(pytester, _run_forked):
    """Return a function that runs pytest in its own process and returns the result.

    The run loads this plugin, the plugins named in its options, and xdist if there is `-n`. All
    installed plugins would take two seconds to load.
    """

    def run(*options, **environment):
        streams = [pytester.path / name for name in ("stdout", "stderr")]
        for stream in streams:
            stream.write_bytes(b"")
        importable = filter(None, [str(pytester.path), os.getenv("PYTHONPATH")])
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(importable),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            **environment,
        }
        plugins = ["no:cacheprovider", "streamperf", *(["xdist"] if "-n" in options else [])]
        arguments = [
            f"--basetemp={pytester.path / 'basetemp'}",
            *(word for plugin in plugins for word in ("-p", plugin)),
            *map(str, options),
        ]
        status = _run_forked(arguments, environment, str(pytester.path), *map(str, streams))
        printed = [stream.read_text(encoding="utf-8") for stream in streams]
        sys.stdout.write(printed[0])
        sys.stderr.write(printed[1])
        return pytest.RunResult(status, *map(str.splitlines, printed), 0.0)

    return run


@pytest.fixture
def budgeted(pytester, run_alone):
    """Return a function that runs test code with the given settings and with pytest-asyncio.

    `expect` has the outcomes that the run must have, by name: `{"passed": 1}`.
    """

    def run(tests, *options, settings="", expect=None):
        pytester.makepyfile(test_it=HEAD + textwrap.dedent(tests))
        pytester.makefile(".toml", pyproject=settings)
        plugins = ["-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=auto"]
        fixed = ["-o", "asyncio_default_fixture_loop_scope=function"]
        result = run_alone(*plugins, *fixed, *options)
        if expect:
            result.assert_outcomes(**expect)
        return result

    return run


@pytest.fixture
def assert_refused():
    """Return a function that asserts that the decoder of a dialect refuses an event.

    The decoder gets `hi`, which decodes to the text "Hi", and then the event `wrong`. Its error
    must start with `message`, have the offset of `wrong`, and keep the text "Hi". `number` is the
    number of events in `hi`.
    """

    def check(decoder, hi, wrong, message, *, number):
        with pytest.raises(WireError) as raised:
            decoder.feed(hi + wrong + hi)
        assert str(raised.value).startswith(message)
        assert raised.value.decoded == ["Hi"]
        assert (raised.value.offset, raised.value.number) == (len(hi), number)

    return check


@pytest.fixture
def only_new_libraries(monkeypatch):
    """Hide the native networking libraries that other tests have loaded before this one."""
    # Not imported at the top: the tests that fork pytest need a process without this module.
    native = import_module("pytest_streamperf.network.native_libraries")
    before = native.networking_libraries()
    monkeypatch.setattr(
        "pytest_streamperf.network.fetch_guard.networking_libraries",
        lambda: [library for library in native.networking_libraries() if library not in before],
    )

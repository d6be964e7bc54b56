"""Where only pytest and the wheel are installed."""

import sys


def test_idle_it_loads_nothing():
    ours = {name for name in sys.modules if name.startswith("pytest_streamperf")}
    names = ("_plugin", "_plugin.recorder", "_results", "_results.reporter")
    assert ours == {"pytest_streamperf", *(f"pytest_streamperf.{name}" for name in names)}
    assert not {"psutil", "partial_json_parser"} & sys.modules.keys()


def test_growth_is_measured(assert_linear):
    assert_linear("".join)

"""What is costly to ask for, and how the checks of it complain."""

from pytest_streamperf import TokenStream
from pytest_streamperf.service import Request
from reference_impl import create_app

HEAP, REPORT = Request("GET", "/api/dev/heap"), Request("GET", "/report")


def reference():
    """The reference server, with a model that takes its time, and snapshots that do not."""
    return create_app(
        lambda _: TokenStream(tokens=3_000, every=0.01), debug=True, snapshot_limit=0.3
    )


def told(caught):
    """The headline of what was raised, which is well laid out."""
    lines = str(caught.value).splitlines()
    assert len(lines) <= 10
    assert max(map(len, lines)) <= 72
    return caught.value.verdict.headline

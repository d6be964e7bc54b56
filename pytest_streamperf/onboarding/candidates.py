"""What a module has that a test should hold: the best first, each with the test for it."""

from pytest_streamperf.onboarding.apps import apps, of_app
from pytest_streamperf.onboarding.candidate import Candidate
from pytest_streamperf.onboarding.consumers import consumers, feeders
from pytest_streamperf.onboarding.fetches import fetches, of_fetch
from pytest_streamperf.onboarding.pulses import of_generator
from pytest_streamperf.onboarding.source import Source, Unreadable
from pytest_streamperf.onboarding.streamed import of_consumer, of_feeder


def candidates(source: Source, module: str) -> list[Candidate]:
    """Find all there is to test in a module, the best first.

    Raises `Unreadable` where it is nested too deep.

    >>> from pytest_streamperf.onboarding.source import read
    >>> source = read("a.py", b"def collect(stream): return ''.join(d for d in stream)")
    >>> [(each.name, each.sure) for each in candidates(source, "a")]
    [('collect', True)]
    """
    try:
        found = [
            *(each for one in feeders(source) for each in of_feeder(source, one)),
            *(each for one in consumers(source) for each in of_consumer(source, one)),
            *(each for member in source.members for each in of_generator(source, member)),
            *map(of_app, apps(source)),
            *(of_fetch(source, each, module) for each in fetches(source)),
        ]
    except RecursionError:
        msg = f"{module} is nested too deep to be read"
        raise Unreadable(msg) from None
    return sorted(found, key=lambda each: (not each.sure, -each.score, each.line))

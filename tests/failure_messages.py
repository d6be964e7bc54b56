"""Read the failure message of a check, and hold it to the layout that all messages have."""


def headline_of(caught, *, most=13):
    """Return the headline of a raised verdict: at most `most` lines of 72 columns each."""
    lines = str(caught.value).splitlines()
    assert len(lines) <= most
    assert max(map(len, lines)) <= 72
    return caught.value.verdict.headline

"""Check the failure message of a check against the layout that all messages have."""


def headline_of(caught, *, most=13):
    """Return the headline of the failure in `caught`, an `ExceptionInfo` of pytest.

    The message must have at most `most` lines of at most 72 columns each.
    """
    lines = str(caught.value).splitlines()
    assert len(lines) <= most
    assert max(map(len, lines)) <= 72
    return caught.value.verdict.headline

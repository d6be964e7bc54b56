"""What a check complains of, to people who are tired."""


def told(caught, *, most=13):
    """The headline of what was raised, which is well laid out, in so many lines at most."""
    lines = str(caught.value).splitlines()
    assert len(lines) <= most
    assert max(map(len, lines)) <= 72
    return caught.value.verdict.headline

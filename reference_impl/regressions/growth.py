"""Mistakes that make work grow faster than the stream."""

from reference_impl.regressions.registry import Regression


class QuadraticReply:
    """A `Reply` that copies the whole text on every delta."""

    def __init__(self) -> None:
        self._text = ""

    def feed(self, delta: str) -> None:
        """Add a delta."""
        # CPython grows a local string in place, so only a += on an attribute is quadratic.
        self._text += delta

    def text(self) -> str:
        """Return all the text so far."""
        return self._text


REGRESSIONS = (
    Regression(
        "quadratic-accumulator",
        target="reference_impl.agent:Reply",
        replacement=QuadraticReply,
        check="growth",
        story="The reply is kept in one string, so every delta copies all the text before it.",
    ),
)

"""Mistakes in how the server behaves: what it counts, sends, keeps and says to whom."""

from typing import Any

from reference_impl import metrics
from reference_impl.regressions.registry import Regression


class LeaksOnDisconnect(metrics.Tracked):
    """Counts a request as over where its response ends, and not where its client leaves first."""

    def over(self, *, failed: bool, left: bool) -> None:
        """It is over."""
        if not left:
            super().over(failed=failed, left=left)


class EndsTwiceOnError(metrics.Tracked):
    """Counts down in the error handler, and again when all is over."""

    def over(self, *, failed: bool, left: bool) -> None:
        """It is over."""
        if failed:
            self._ended()
        super().over(failed=failed, left=left)


class MissesFailures(metrics.Tracked):
    """Counts a response where one was sent as it should be: what failed has none."""

    def over(self, *, failed: bool, left: bool) -> None:
        """It is over."""
        if failed:
            self._ended()
        else:
            super().over(failed=failed, left=left)


def allowed_unless_an_error(status: int) -> bool:
    """Adds the headers where an answer is made, and errors are made elsewhere."""
    return status < 400  # noqa: PLR2004 - where errors begin


def allowed_unless_not_modified(status: int) -> bool:
    """Takes an answer without a body for one that nobody reads."""
    return status != 304  # noqa: PLR2004 - "Not Modified"


def _service(name: str, target: str, replacement: Any) -> Regression:
    return Regression(
        name, f"reference_impl.{target}", replacement, "service", str(replacement.__doc__)
    )


REGRESSIONS = (
    _service("gauge-leaks-on-disconnect", "metrics:Tracked", LeaksOnDisconnect),
    _service("gauge-goes-negative", "metrics:Tracked", EndsTwiceOnError),
    _service("totals-miss-failures", "metrics:Tracked", MissesFailures),
    _service("cors-missing-on-errors", "cors:allowed", allowed_unless_an_error),
    _service("cors-missing-on-304", "cors:allowed", allowed_unless_not_modified),
)

"""A clock for tests of meters: time passes only where a test spends it."""


class Clock:
    """Time that passes only where something spends it; reading it takes `own`."""

    def __init__(self, own=0.0) -> None:
        self.now = 0.0
        self.own = own

    def __call__(self):
        """Tell the time."""
        self.now += self.own
        return self.now

    def spend(self, seconds):
        """Let time pass."""
        self.now += seconds

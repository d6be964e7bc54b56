"""A clock for tests of meters: its time advances only where a test spends it."""


class Clock:
    """A clock in seconds that starts at 0; only `spend` advances it, and each reading by `own`."""

    def __init__(self, own=0.0) -> None:
        self.now = 0.0
        self.own = own

    def __call__(self):
        """Return the time, after it has advanced by `own` seconds."""
        self.now += self.own
        return self.now

    def spend(self, seconds):
        """Advance the time by `seconds`."""
        self.now += seconds

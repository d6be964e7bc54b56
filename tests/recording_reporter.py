"""A reporter that records everything checks report, for tests to compare."""

from dataclasses import dataclass, field

from pytest_streamperf._results.policy import Policy


@dataclass
class RecordingReporter:
    """What checks reported: open it with `reporting_to`.

    Two that recorded the same are equal, so a test sees whether code compares them by identity.
    """

    policy: Policy = field(default_factory=Policy)
    verdicts: list = field(default_factory=list)
    begun: list = field(default_factory=list)
    ended: list = field(default_factory=list)
    subjects: list = field(default_factory=list)
    progress_lines: list = field(default_factory=list)

    def begin(self, check):
        """Record an async check that was called."""
        self.begun.append(check)

    def end(self, check):
        """Record an async check that was awaited."""
        self.ended.append(check)

    def concerns(self, subject):
        """Record a counter that was made, or a stream that is about to be read."""
        self.subjects.append(subject)

    def progress(self, text):
        """Record a line of progress; an empty one says that the check is done."""
        self.progress_lines.append(text)

    def report(self, verdict):
        """Record the verdict of a check."""
        self.verdicts.append(verdict)

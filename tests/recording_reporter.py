"""A reporter that records all calls by checks, so that tests can compare them."""

from dataclasses import dataclass, field

from pytest_streamperf._results.policy import Policy


@dataclass
class RecordingReporter:
    """The calls that a reporter has received; `reporting_to` installs the reporter.

    Two instances with equal records are equal. So a test fails if code compares reporters by
    equality where it must compare them by identity.
    """

    policy: Policy = field(default_factory=Policy)
    verdicts: list = field(default_factory=list)
    begun: list = field(default_factory=list)
    ended: list = field(default_factory=list)
    subjects: list = field(default_factory=list)
    progress_lines: list = field(default_factory=list)

    def begin(self, check):
        """Record an async check that a test has called."""
        self.begun.append(check)

    def end(self, check):
        """Record an async check that a test has awaited to its end."""
        self.ended.append(check)

    def concerns(self, subject):
        """Record a counter that a test has created, or a stream that is about to be read."""
        self.subjects.append(subject)

    def progress(self, text):
        """Record a line of progress; an empty line means that the check is done."""
        self.progress_lines.append(text)

    def report(self, verdict):
        """Record the verdict of a check."""
        self.verdicts.append(verdict)

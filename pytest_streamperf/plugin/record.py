"""What is kept of a run and of its tests: settings, and what the checks of a test report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_streamperf import verdict

if TYPE_CHECKING:
    from pytest_streamperf.holding import Held
    from pytest_streamperf.network.run import Guards

NO_SETTINGS = verdict.Policy()


class Record:
    """Takes what the checks of one test report."""

    def __init__(self, item: pytest.Item) -> None:
        self.policy = item.config.stash.get(POLICY, NO_SETTINGS)
        self.verdicts: list[verdict.Verdict] = []
        self.held: Held | None = None
        self._properties = item.user_properties
        self._begun: list[Any] = []

    def begin(self, check: object) -> None:
        self._begun.append(check)

    def end(self, check: object) -> None:
        self._begun.remove(check)

    def made(self, subject: object) -> None:
        if self.held is not None:
            self.held.made(subject)

    def report(self, concluded: verdict.Verdict) -> None:
        self.verdicts.append(concluded)
        if self.held is not None:
            self.held.stems.add(concluded.stem)
        name = f"streamperf.{concluded.stem}"
        self._properties.append((name, f"{concluded.verdict}: {concluded.headline}"))
        self._properties += [
            (f"{name}.{key}", value) for key, value in concluded.figures.flat().items()
        ]
        self._properties += [(f"{name}.where", each.place) for each in concluded.where[:1]]

    def discard(self) -> int:
        """Close the checks that were never awaited; how many they are."""
        for check in self._begun:
            check.close()
        return len(self._begun)


POLICY = pytest.StashKey[verdict.Policy]()
RECORD = pytest.StashKey[Record]()
FAILED = pytest.StashKey[bool]()
GUARDS: pytest.StashKey[Guards] = pytest.StashKey()
# What was raised after the test, of which there is no line to show.
UNPLACED = pytest.StashKey[BaseException]()

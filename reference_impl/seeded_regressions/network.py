"""Mistakes in the model manager's background fetch, and in what becomes of it."""

import os
from collections.abc import Iterable
from functools import partial

from reference_impl import models
from reference_impl.seeded_regressions import seeded


def no_gate() -> bool:
    """Fetches wherever it is made, so in tests, too."""
    return False


def gate_on_the_test_alone() -> bool:
    """Asks for the running test, of which there is none while tests are collected."""
    return "PYTEST_CURRENT_TEST" in os.environ


def always_gated() -> bool:
    """Takes production for a test, so nobody ever gets the listing."""
    return True


class MergesAsItComes(models.Catalogue):
    """Puts whatever comes at the end of one list, so that the order of a fetch shows."""

    def apply(self, ids: Iterable[str]) -> None:
        """Take a listing."""
        self.added += [each for each in ids if each not in self.added]


class KeepsStaleEntries(models.Catalogue):
    """Adds a listing to the one before it, so that what was withdrawn stays."""

    def apply(self, ids: Iterable[str]) -> None:
        """Take a listing."""
        self.fetched = tuple(dict.fromkeys((*self.fetched, *ids)))


_gate = partial(seeded, "assert_fetch_is_gated")

REGRESSIONS = (
    _gate("no-gate", "models:under_test", no_gate),
    _gate("gate-on-test-alone", "models:under_test", gate_on_the_test_alone),
    _gate("always-gated", "models:under_test", always_gated),
    seeded(
        "assert_order_independent", "merge-depends-on-order", "models:Catalogue", MergesAsItComes
    ),
    seeded("assert", "stale-entries-kept", "models:Catalogue", KeepsStaleEntries),
)

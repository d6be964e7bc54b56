"""Seeded regressions of `models`: the gate of the background fetch, and the merged list of models.

`assert_fetch_is_gated` must catch the faulty gates. `assert_order_independent` and a plain `assert`
must catch the faulty lists.
"""

import os
from collections.abc import Iterable
from functools import partial

from reference_impl import models
from reference_impl.seeded_regressions import seeded


def no_gate() -> bool:
    """The manager fetches the listing in every process, also under test."""
    return False


def gate_on_running_test() -> bool:
    """The gate looks for a running test, but none runs while pytest collects tests."""
    return "PYTEST_CURRENT_TEST" in os.environ


def always_gated() -> bool:
    """The gate takes production for a test, so the listing is never fetched."""
    return True


class AppendsFetchedModels(models.Catalogue):
    """Fetched and added models share one list, so their order depends on which came first."""

    def apply(self, ids: Iterable[str]) -> None:
        """Append the new ids of a listing to the ids that users added."""
        self.added += [model for model in ids if model not in self.added]


class KeepsStaleEntries(models.Catalogue):
    """A new listing is added to the previous one, so withdrawn models stay in the list."""

    def apply(self, ids: Iterable[str]) -> None:
        """Append the ids of a listing to those of earlier listings."""
        self.fetched = tuple(dict.fromkeys((*self.fetched, *ids)))


_gate_regression = partial(seeded, "assert_fetch_is_gated")

REGRESSIONS = (
    _gate_regression("no-gate", "models:under_test", no_gate),
    _gate_regression("gate-on-test-alone", "models:under_test", gate_on_running_test),
    _gate_regression("always-gated", "models:under_test", always_gated),
    seeded(
        "assert_order_independent",
        "merge-depends-on-order",
        "models:Catalogue",
        AppendsFetchedModels,
    ),
    seeded("assert", "stale-entries-kept", "models:Catalogue", KeepsStaleEntries),
)

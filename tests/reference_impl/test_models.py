"""Tests of the model manager: its list, its gate, and its merge of fetched and added models.

The gate keeps the manager from fetching under test. Seeded regressions break gate and merge on
purpose, and the network checks must catch them.
"""

import threading

import httpx
import httpx2
import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st

from pytest_streamperf import (
    FetchGuard,
    NetworkExceeded,
    assert_fetch_is_gated,
    assert_order_independent,
    assert_same_requests,
)
from reference_impl import ModelManager, regressed
from reference_impl.models import CURATED, LISTING, ORGANISATION, Catalogue, Model

pytestmark = pytest.mark.usefixtures("only_new_libraries")

FETCHED_IDS = ["mlx-community/new", CURATED[0].id]
STUBBED_RESPONSES = {"huggingface.co/api/models": [{"id": model_id} for model_id in FETCHED_IDS]}
CREATE_MANAGER = (
    "from reference_impl import ModelManager, regressed\nwith regressed({}): ModelManager()"
)


def ids(manager):
    """Return the ids of all models of a manager or catalogue."""
    return [model.id for model in manager.models()]


def test_new_entries_come_after_the_curated():
    """Fetched models come after the curated ones, and a curated model is not listed twice."""
    manager = ModelManager()
    manager.apply(FETCHED_IDS)
    assert manager.models() == (*CURATED, Model("mlx-community/new", "fetched"))


def test_stale_entries_go():
    """A new listing replaces the previous one."""
    manager = ModelManager()
    manager.apply(["a/withdrawn"])
    manager.apply(["a/new"])
    assert ids(manager)[len(CURATED) :] == ["a/new"]


def test_ones_own_stay():
    """A fetched listing does not remove the models that a user added."""
    manager = ModelManager()
    manager.add("me/mine")
    manager.apply(["a/new", "me/mine"])
    manager.apply(["a/newer"])
    assert ids(manager)[len(CURATED) :] == ["a/newer", "me/mine"]


@given(st.lists(st.text("abc", min_size=1)), st.lists(st.text("abc", min_size=1)))
def test_curated_ones_are_always_there(fetched, added):
    """The curated models always come first, and no model is listed twice."""
    catalogue = Catalogue()
    catalogue.apply(fetched)
    for model_id in added:
        catalogue.add(model_id)
    listed = [model.id for model in catalogue.models()]
    assert listed[: len(CURATED)] == [model.id for model in CURATED]
    assert len(set(listed)) == len(listed)
    assert {*fetched, *added} <= {*listed}


@respx.mock
def test_refresh_over_httpx():
    """`refresh` fetches the organisation's listing with httpx and applies it."""
    route = respx.get(LISTING).respond(json=[{"id": model_id} for model_id in FETCHED_IDS])
    manager = ModelManager()
    manager.refresh()
    assert ids(manager)[-1] == "mlx-community/new"
    assert route.calls.last.request.url.params["author"] == ORGANISATION


def test_refresh_over_httpx2(httpx2_mock):
    """`refresh` fetches the organisation's listing with httpx2 and applies it."""
    route = httpx2_mock.get(LISTING).respond(json=[{"id": model_id} for model_id in FETCHED_IDS])
    manager = ModelManager(client=httpx2.Client)
    manager.refresh()
    assert ids(manager)[-1] == "mlx-community/new"
    assert route.calls.last.request.url.params["author"] == ORGANISATION


@respx.mock
def test_a_refresh_that_fails():
    """A `refresh` that fails raises the error of the client and does not change the list."""
    respx.get(LISTING).respond(503)
    manager = ModelManager()
    with pytest.raises(httpx.HTTPStatusError):
        manager.refresh()
    assert manager.models() == CURATED


def test_no_fetch_under_test(no_background_fetch):
    """A manager that is created in this test attempts no fetch."""
    ModelManager()
    assert no_background_fetch.attempts == []


# -- the gate: the condition that keeps the manager from fetching under test


def test_the_gate():
    """The manager fetches in production, and not while tests are collected or run."""
    proof = assert_fetch_is_gated("reference_impl.models:ModelManager")
    assert proof.runs["production"].attempts[0].host == "huggingface.co"
    assert proof.runs["production"].attempts[0].request == f"GET {LISTING}"


@pytest.mark.parametrize(
    ("regression", "message"),
    [
        ("no-gate", "fetches under test"),
        ("gate-on-test-alone", "fetches under test"),
    ],
)
def test_a_gate_that_leaks(regression, message):
    """A gate that leaks under test fails the check, which names each environment that fetches."""
    with pytest.raises(NetworkExceeded, match=message) as failure:
        assert_fetch_is_gated(CREATE_MANAGER.format(repr(regression)))
    outcomes = {name: run.does for name, run in failure.value.verdict.runs.items()}
    assert outcomes["collection"] == "FETCHES"
    assert outcomes["call"] == ("FETCHES" if regression == "no-gate" else "SILENT")


def test_a_gate_that_never_opens():
    """A gate that also blocks production makes the check inconclusive."""
    from pytest_streamperf import NetworkInconclusive  # noqa: PLC0415

    with pytest.raises(NetworkInconclusive, match="nothing is proven"):
        assert_fetch_is_gated(CREATE_MANAGER.format("'always-gated'"))


def test_no_gate_is_caught_by_the_guard():
    """The network guard fails the test that creates an ungated manager, by its thread's attempt."""

    def create_manager():
        with regressed("no-gate"), FetchGuard(block=True):
            ModelManager()
            for thread in threading.enumerate():
                if thread.name == "models":
                    thread.join()

    with pytest.raises(NetworkExceeded, match="huggingface") as failure:
        create_manager()
    assert f"GET {LISTING}" in str(failure.value)


def test_production_fetches_exactly_as_before():
    """In production, the gated manager sends the same request as one without a gate."""
    (request,) = assert_same_requests(
        CREATE_MANAGER.format("'no-gate'"),
        "reference_impl.models:ModelManager",
        answers=STUBBED_RESPONSES,
    )
    assert request.host == "huggingface.co"
    assert request.path == f"/api/models?author={ORGANISATION}&limit=50"


# -- the race between the fetched listing and added models


def check_merge_order():
    """Check that a listing may come before, between or after two added models."""
    return assert_order_independent(
        lambda manager: manager.apply(FETCHED_IDS),
        [lambda manager: manager.add("me/mine"), lambda manager: manager.add("me/other")],
        make=ModelManager,
        outcome=ids,
    )


def test_the_merge_is_independent_of_order():
    """The order of the listing and the added models does not change the list."""
    assert check_merge_order().verdict == "within"


def test_a_merge_that_depends_on_order():
    """A merge that depends on the order fails the check, with the number of different outcomes."""
    with regressed("merge-depends-on-order"), pytest.raises(NetworkExceeded, match="3 outcomes of"):
        check_merge_order()


def test_stale_entries_that_are_kept():
    """A second listing removes a withdrawn model, and the regression keeps it in the list."""

    def ids_after_two_listings(manager):
        manager.apply(["a/withdrawn"])
        manager.apply(["a/new"])
        return ids(manager)

    assert "a/withdrawn" not in ids_after_two_listings(ModelManager())
    with regressed("stale-entries-kept"):
        assert "a/withdrawn" in ids_after_two_listings(ModelManager())

"""The reference's model manager: its gate, its merge, and the regressions that break them."""

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

FETCHED = ["mlx-community/new", CURATED[0].id]
ANSWERS = {"huggingface.co/api/models": [{"id": each} for each in FETCHED]}
MAKE = "from reference_impl import ModelManager, regressed\nwith regressed({}): ModelManager()"


def ids(manager):
    """What there is to choose from."""
    return [model.id for model in manager.models()]


def test_new_entries_come_after_the_curated():
    """Each once."""
    manager = ModelManager()
    manager.apply(FETCHED)
    assert manager.models() == (*CURATED, Model("mlx-community/new", "fetched"))


def test_stale_entries_go():
    """A listing stands for the one before it."""
    manager = ModelManager()
    manager.apply(["a/withdrawn"])
    manager.apply(["a/new"])
    assert ids(manager)[len(CURATED) :] == ["a/new"]


def test_ones_own_stay():
    """Whatever is fetched."""
    manager = ModelManager()
    manager.add("me/mine")
    manager.apply(["a/new", "me/mine"])
    manager.apply(["a/newer"])
    assert ids(manager)[len(CURATED) :] == ["a/newer", "me/mine"]


@given(st.lists(st.text("abc", min_size=1)), st.lists(st.text("abc", min_size=1)))
def test_curated_ones_are_always_there(fetched, added):
    """First, and each model once."""
    catalogue = Catalogue()
    catalogue.apply(fetched)
    for each in added:
        catalogue.add(each)
    found = [model.id for model in catalogue.models()]
    assert found[: len(CURATED)] == [model.id for model in CURATED]
    assert len(set(found)) == len(found)
    assert {*fetched, *added} <= {*found}


@respx.mock
def test_refresh_over_httpx():
    """The organisation's listing, and what comes of it."""
    route = respx.get(LISTING).respond(json=[{"id": each} for each in FETCHED])
    manager = ModelManager()
    manager.refresh()
    assert ids(manager)[-1] == "mlx-community/new"
    assert route.calls.last.request.url.params["author"] == ORGANISATION


def test_refresh_over_httpx2(httpx2_mock):
    """The same, by httpx's successor."""
    route = httpx2_mock.get(LISTING).respond(json=[{"id": each} for each in FETCHED])
    manager = ModelManager(client=httpx2.Client)
    manager.refresh()
    assert ids(manager)[-1] == "mlx-community/new"
    assert route.calls.last.request.url.params["author"] == ORGANISATION


@respx.mock
def test_a_refresh_that_fails():
    """Raises where it was asked for, and changes nothing."""
    respx.get(LISTING).respond(503)
    manager = ModelManager()
    with pytest.raises(httpx.HTTPStatusError):
        manager.refresh()
    assert manager.models() == CURATED


def test_no_fetch_under_test(no_background_fetch):
    """The gate holds, here and now."""
    ModelManager()
    assert no_background_fetch.attempts == []


# -- the gate


def test_the_gate():
    """Silent while tests are collected and run; production fetches."""
    proof = assert_fetch_is_gated("reference_impl.models:ModelManager")
    assert proof.runs["production"].attempts[0].host == "huggingface.co"
    assert proof.runs["production"].attempts[0].request == f"GET {LISTING}"


@pytest.mark.parametrize(
    ("regression", "says"),
    [
        ("no-gate", "fetches under test"),
        ("gate-on-test-alone", "fetches under test"),
    ],
)
def test_a_gate_that_leaks(regression, says):
    """Is found by the row that it leaks in."""
    with pytest.raises(NetworkExceeded, match=says) as caught:
        assert_fetch_is_gated(MAKE.format(repr(regression)))
    does = {name: run.does for name, run in caught.value.verdict.runs.items()}
    assert does["collection"] == "FETCHES"
    assert does["call"] == ("FETCHES" if regression == "no-gate" else "SILENT")


def test_a_gate_that_never_opens():
    """Production is silent, though the code itself can fetch."""
    from pytest_streamperf import NetworkInconclusive  # noqa: PLC0415

    with pytest.raises(NetworkInconclusive, match="a void proof"):
        assert_fetch_is_gated(MAKE.format("'always-gated'"))


def test_no_gate_is_caught_by_the_guard():
    """In whichever test makes a manager: the background thread's attempt is that test's."""

    def make():
        with regressed("no-gate"), FetchGuard(block=True):
            ModelManager()
            for thread in threading.enumerate():
                if thread.name == "models":
                    thread.join()

    with pytest.raises(NetworkExceeded, match="huggingface") as caught:
        make()
    assert f"GET {LISTING}" in str(caught.value)


def test_production_fetches_exactly_as_before():
    """The gated manager asks for what one without a gate does."""
    (request,) = assert_same_requests(
        MAKE.format("'no-gate'"), "reference_impl.models:ModelManager", answers=ANSWERS
    )
    assert request.host == "huggingface.co"
    assert request.path == f"/api/models?author={ORGANISATION}&limit=50"


# -- the race


def merged():
    """The seed's race: the listing comes before, between, or after what people add."""
    return assert_order_independent(
        lambda manager: manager.apply(FETCHED),
        [lambda manager: manager.add("me/mine"), lambda manager: manager.add("me/other")],
        make=ModelManager,
        outcome=ids,
    )


def test_the_merge_is_independent_of_order():
    """Whenever the listing comes."""
    assert merged().verdict == "within"


def test_a_merge_that_depends_on_order():
    """Is found, with the orders that differ."""
    with regressed("merge-depends-on-order"), pytest.raises(NetworkExceeded, match="3 outcomes of"):
        merged()


def test_stale_entries_that_are_kept():
    """Two listings, in either order, are not the same as the last one."""

    def applied(manager):
        manager.apply(["a/withdrawn"])
        manager.apply(["a/new"])
        return ids(manager)

    assert "a/withdrawn" not in applied(ModelManager())
    with regressed("stale-entries-kept"):
        assert "a/withdrawn" in applied(ModelManager())

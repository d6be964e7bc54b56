"""No fetch under test, one in production, and no race between them."""

import pytest

from pytest_streamperf import assert_fetch_is_gated, assert_order_independent


@pytest.mark.streamperf(background_fetch=False, block_network=True)
def test_a_manager_is_made():
    from stays_silent import Manager

    manager = Manager()
    assert "small" in manager.models


def test_the_gate():
    assert_fetch_is_gated("import stays_silent")


def test_whichever_finishes_last():
    from stays_silent import Models

    assert_order_independent(
        lambda models: models.apply(["huge"]),
        lambda models: models.append("mine"),
        make=lambda: Models(["small", "large"]),
        outcome=list,
    )

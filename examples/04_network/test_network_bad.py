"""A fetch behind a test's back: seen, though its error is swallowed in a thread."""

import pytest

from pytest_streamperf import assert_fetch_is_gated, assert_order_independent


@pytest.mark.streamperf(background_fetch=False, block_network=True)
def test_a_manager_is_made():
    from phones_home import Manager

    manager = Manager()
    assert "small" in manager.models
    manager.thread.join()


def test_the_gate():
    assert_fetch_is_gated("import phones_home")


def test_whichever_finishes_last():
    from phones_home import Models

    assert_order_independent(
        lambda models: models.apply(["huge"]),
        lambda models: models.append("mine"),
        make=lambda: Models(["small", "large"]),
        outcome=list,
    )

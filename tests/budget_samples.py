"""A project's settings with budgets, and the first lines of a test file that declares them."""

SETTINGS = """
[tool.streamperf.budgets]
max_gap = "200ms"
max_superlinear = "30%"

[tool.streamperf.budgets.chat-ui]
max_stall = "50ms"
updates_every = "100ms"
"""

HEAD = """
import asyncio
import gc
import json
import time
import pytest
from pytest_streamperf import TokenStream, UpdateCounter, FlushCounter, assert_linear

def budget(**keys):
    return pytest.mark.streamperf(**keys)

def text_of(stream):
    return "".join([delta for delta in stream])
"""

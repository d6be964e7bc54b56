"""Samples for tests of budgets: a project's settings, and the first lines of a test file."""

# A default budget, and a profile called `chat-ui`.
SETTINGS = """
[tool.streamperf.budgets]
max_gap = "200ms"
max_superlinear = "30%"

[tool.streamperf.budgets.chat-ui]
max_stall = "50ms"
updates_every = "100ms"
"""

# The imports of a test file, and its helpers `budget` (a marker) and `text_of` (reads a stream).
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

"""Read the budgets that a project declares, and enforce them on whole tests.

`declaration` reads `pyproject.toml` and markers and merges them into the `Budget` of one test.
`enforcement` observes a test while it runs, and fails it if it exceeds its budget.
"""

from pytest_streamperf.budgets.declaration import Budget, Layer, budget_of, layer_of, read_policy

__all__ = ["Budget", "Layer", "budget_of", "layer_of", "read_policy"]

"""What a project declares for its tests, and the enforcement of that on a whole test."""

from pytest_streamperf.budgets.declaration import Budget, Layer, budget_of, layer_of, read_policy

__all__ = ["Budget", "Layer", "budget_of", "layer_of", "read_policy"]

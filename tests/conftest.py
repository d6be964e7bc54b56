"""What the whole suite shares."""

from hypothesis import settings

pytest_plugins = ["pytester"]

# The same examples in every run, and no limit of time on them: a suite that is red is red for all.
settings.register_profile("suite", derandomize=True, database=None, deadline=None, max_examples=60)
settings.load_profile("suite")

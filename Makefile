# Everything is set up in .venv, from a bare checkout, by the targets themselves.

PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test docs clean

demo: .venv/ready
	$(BIN)/python -m examples.demo

test: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -p streamperf -m "not alone" -n 2 --dist loadfile
	$(BIN)/python -m pytest -p streamperf -m alone

docs: .venv/ready
	$(BIN)/python -m sphinx --nitpicky --fail-on-warning --keep-going --quiet docs docs/_build

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

clean:
	rm -rf .venv dist docs/_build

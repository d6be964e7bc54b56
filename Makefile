# Everything is set up in .venv, from a bare checkout, by the targets themselves.

PYTHON ?= python3
BIN = .venv/bin

.PHONY: demo test test-browser test-neighbours chromium docs clean

demo: .venv/ready
	$(BIN)/python -m examples.demo

test: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/python -m pytest -q -p streamperf -m "not alone" -n 3 --dist loadfile
	$(BIN)/python -m pytest -q -p streamperf -m alone
	@echo "tests/browser was not run, which needs Chromium: make test-browser runs it"
	@echo "tests/neighbours was not run, which needs their plugins: make test-neighbours runs it"

test-browser: .venv/browser chromium
	$(BIN)/python -m pytest -p streamperf tests/browser

test-neighbours: .venv-neighbours/ready
	.venv-neighbours/bin/python -m pytest -p streamperf -p no:randomly tests/neighbours

docs: .venv/ready
	$(BIN)/python -m sphinx --nitpicky --fail-on-warning --keep-going --quiet docs docs/_build

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

.venv-neighbours/ready: pyproject.toml
	$(PYTHON) -m venv .venv-neighbours
	.venv-neighbours/bin/python -m pip install --quiet --disable-pip-version-check -e '.[neighbours]'
	touch $@

.venv/browser: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[browser]'
	touch $@

chromium:
	@command -v chromium >/dev/null || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	then apt-get update --quiet && apt-get install --quiet --yes chromium; \
	else echo "tests/browser needs a program called chromium on the PATH: install it first" >&2; exit 1; fi

clean:
	rm -rf .venv .venv-neighbours dist docs/_build

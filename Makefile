# make train   set up .venv and run the main job        make test    set up .venv and run the tests
# make check   format, lint, types, layers                 make test-gpu   the tests that need a GPU
# make test-slow   what repeats at length what make test holds in short    make docs   the documentation site, in build/site
# make test-minimum   the tests with the oldest Python and libraries    make rehearse-gpu   those on a pretended GPU
PYTHON ?= python3
BIN := .venv/bin
PYTHON_MINIMUM ?= python$(shell sed -n 's/^requires-python = ">=\(.*\)"/\1/p' pyproject.toml)
MINIMUM := .venv-minimum/bin

.PHONY: train test test-slow test-gpu rehearse-gpu test-minimum check docs clean

train: .venv/installed
	$(BIN)/dml train

test: .venv/installed
	$(BIN)/python -m pytest

test-slow: .venv/installed
	$(BIN)/python -m pytest -m "slow and not gpu"

test-gpu: .venv/installed
	$(BIN)/python -m pytest -n0 -m gpu tests/gpu -rs

# The same on a pretended GPU, so that they are right when a real one is there.
rehearse-gpu: .venv/installed
	DML_PRETEND_GPU=1 $(BIN)/python -m pytest -n0 -m gpu tests/gpu

# What old libraries and newer ones below them warn of is not ours to mend.
test-minimum: .venv-minimum/installed
	$(MINIMUM)/python -m pytest -W default

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# With Python 3.11 or later. Each warning is an error: a link that leads nowhere, a page outside of the navigation, a name
# that the reference lacks.
docs: .venv/installed
	$(BIN)/python -m sphinx -q -E -a -W --keep-going -b html docs build/site

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

.venv-minimum/installed: pyproject.toml
	$(PYTHON_MINIMUM) -m venv --clear .venv-minimum
	$(MINIMUM)/python -m pip install --quiet uv
	$(MINIMUM)/uv pip install --quiet --python $(MINIMUM)/python --resolution lowest-direct --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv .venv-minimum

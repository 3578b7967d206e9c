# make train   set up .venv and run the main job        make test    set up .venv and run the tests
# make check   format, lint, types, layers                 make test-gpu   the tests that need a GPU
PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test test-gpu check clean

train: .venv/installed
	$(BIN)/python train.py

test: .venv/installed
	$(BIN)/python -m pytest

test-gpu: .venv/installed
	$(BIN)/python -m pytest -n0 -m gpu tests/gpu -rs

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv

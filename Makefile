# `make demo` and `make test` do all set-up themselves; see README.md.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup demo test check lint slow bench clean

help:
	@echo "make setup   virtual environment in $(VENV), pinned versions"
	@echo "make demo    run jobs/quickstart.yaml: a real model, a table and a report"
	@echo "make test    all fast tests, real models and real Ray included"
	@echo "make check   lint, types and tests"
	@echo "make slow    simulated coverage, more faults, and a soak of 2,000 units (tens of minutes)"
	@echo "make bench   the scoring engine against other ways to do the same (tens of minutes)"

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint .ci/constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/sweeper run jobs/quickstart.yaml

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not cluster"
	$(BIN)/python -m pytest -m "cluster and not slow"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

slow: setup
	$(BIN)/python -m pytest -m slow

# Other libraries to compare with, beside the pinned versions and never in their place.
$(VENV)/.bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint .ci/constraints.txt --editable '.[dev,bench]'
	touch $@

bench: $(VENV)/.bench
	PYTHONPATH=tests $(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache

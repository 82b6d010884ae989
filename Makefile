# Everything a contributor types. `make demo` and `make test` need Python 3.10 or newer, and nothing else.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 4
BIN := $(VENV)/bin
CHECKED := wsstab tests examples benchmarks hatch_build.py

.DEFAULT_GOAL := help
.PHONY: help demo test matrix composition style types tests coverage bench soak clean

help:
	@echo "make demo      start the chat of examples/ and print its address (PORT=8000 HOST=127.0.0.1)"
	@echo "make test      create the environment and run the whole test suite, JOBS=4 tests at a time"
	@echo "make style     ruff: lint and format, nothing is changed"
	@echo "make types     mypy --strict on the package, the tests and the examples"
	@echo "make tests     the same without workers; ARGS='tests/core -x' chooses"
	@echo "make matrix    the conformance suite of the servers; renews docs/matrix.json and the README's matrix"
	@echo "make composition  the packages of others, bare and wrapped; renews docs/composition.md and its result"
	@echo "make coverage  core/ by its own tests, then everything with the server processes, and what was missed"
	@echo "make bench     every peer that is installed, in turn, in one run; ARGS='single burst --turns 5' chooses"
	@echo "make soak      the long tests: 100,000 connections on each server, broadcasts beside churn, faults"
	@echo "make clean     remove the environment and what the tools left"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "wsstab needs Python 3.10 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of dependencies, older than pyproject.toml when they have to be installed again.
$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,browser]'
	@touch $@

demo: $(VENV)/.demo
	@$(BIN)/python -m examples

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

tests: $(VENV)/.dev
	$(BIN)/python -m pytest $(ARGS)

matrix: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --matrix=$(VENV)/matrix.json tests/servers
	$(BIN)/python -m tests.matrix write $(VENV)/matrix.json

composition: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal --composition=$(VENV)/composition.json tests/composition
	$(BIN)/python -m tests.composition.page write $(VENV)/composition.json

style: $(VENV)/.dev
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)

types: $(VENV)/.dev
	$(BIN)/mypy --strict $(CHECKED)

coverage: $(VENV)/.dev
	$(BIN)/python -m tests.core_coverage
	rm -f .coverage .coverage.*
	COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml $(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --fail-under=95

bench: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	cd benchmarks/node && { npm install --silent || echo "no npm: the peers of Node are left out"; }
	$(BIN)/python -m benchmarks $(ARGS)

soak: $(VENV)/.dev
	$(BIN)/python -m pytest tests/soak/soak_*.py $(ARGS)

clean:
	rm -rf $(VENV) .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find $(CHECKED) -name __pycache__ -type d -prune -exec rm -rf {} +

# Everything a contributor types. `make demo` and `make test` need Python 3.10 or newer, and nothing else.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CHECKED := wsstab tests examples

.DEFAULT_GOAL := help
.PHONY: help demo test style types tests coverage bench soak clean

help:
	@echo "make demo      start the chat of examples/ and print its address (PORT=8000 HOST=127.0.0.1)"
	@echo "make test      create the environment and run the whole test suite"
	@echo "make style     ruff: lint and format, nothing is changed"
	@echo "make types     mypy --strict on the package, the tests and the examples"
	@echo "make tests     the test suite; ARGS='tests/core -x' chooses"
	@echo "make coverage  the test suite, and which branches it missed"
	@echo "make bench     list the benchmarks"
	@echo "make soak      the long tests, if there are any"
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

test tests: $(VENV)/.dev
	$(BIN)/python -m pytest $(ARGS)

style: $(VENV)/.dev
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)

types: $(VENV)/.dev
	$(BIN)/mypy --strict $(CHECKED)

coverage: $(VENV)/.dev
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage report

bench:
	@ls bench/*.py 2>/dev/null || echo "no benchmarks yet"

soak: $(VENV)/.dev
	@if [ -d tests/soak ]; then $(BIN)/python -m pytest tests/soak $(ARGS); else echo "no soak tests yet"; fi

clean:
	rm -rf $(VENV) .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find $(CHECKED) -name __pycache__ -type d -prune -exec rm -rf {} +

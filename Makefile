# make run   set everything up and serve the dashboard at http://127.0.0.1:8501 (PORT=… moves it)
# make test  set everything up and run the tests, browser tests included
# make check style, types, imports      make bench  every benchmark      make clean  remove the environments
# make deepsparse  try again to set up the sparse engine; run and test try once
SHELL := /bin/bash
PORT ?= 8501
PYTHON ?= python3
BIN := .venv/bin
RUN_READY := .venv/.run-ready
TEST_READY := .venv/.test-ready
export PYTHONPATH := $(CURDIR)
export PYTHON
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export STREAMLIT_BROWSER_GATHER_USAGE_STATS := false

.PHONY: run test check bench browser deepsparse sparse-engine clean

run: $(RUN_READY) sparse-engine
	@$(BIN)/python -m sparse_core.serve --port $(PORT)

test: $(TEST_READY) sparse-engine browser check
	@$(BIN)/python -m pytest tests/browser
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/browser

check: $(TEST_READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy sparse_core pages app.py
	@$(BIN)/lint-imports

bench: $(TEST_READY) sparse-engine browser
	@for script in benchmarks/[a-z]*.py; do $(BIN)/python $$script || exit 1; done

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; PYTHON=… names one."; exit 1; }
	@$(PYTHON) -m venv .venv 2>/dev/null || { bash tools/system_package.sh python3-venv && $(PYTHON) -m venv --clear .venv; }

$(RUN_READY): requirements.txt | $(BIN)/python
	@echo "Setting up .venv (once; torch is large, this can take some minutes) …"
	@$(BIN)/python -m pip install --quiet -r requirements.txt
	@$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

$(TEST_READY): requirements-dev.txt $(RUN_READY)
	@$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	@touch $@

browser: $(TEST_READY)
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || bash tools/system_package.sh chromium || $(BIN)/python -m playwright install chromium

sparse-engine: $(RUN_READY)
	@bash tools/deepsparse.sh

deepsparse: $(RUN_READY)
	@bash tools/deepsparse.sh again

clean:
	@rm -rf .venv .venv-deepsparse

# `make demo` and `make test` need git, make and Python 3.11 or newer (with venv and pip), nothing else.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin

.PHONY: help demo test test-long storm soak fuzz mutants lint lock clean
help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: .venv/.installed-runtime  ## the daemon against a simulated API; ARGS="--seconds 20" ends it by itself
	@$(BIN)/voucher-sync demo $(ARGS)

# Four workers even on two cores, since most tests wait for a process, a database or a socket. Whoever is done takes from
# the others: shared out beforehand, all the slow tests of a file are one worker's.
PYTEST := $(BIN)/python -m pytest -n $${PYTEST_WORKERS:-4} --dist worksteal
test: .venv/.installed-tests  ## the test suite, less what takes long
	@$(PYTEST) $(ARGS)

test-long: .venv/.installed-tests  ## the rest of it: more storms, kills and simulations, and what waits for the clock
	@$(PYTEST) -m long $(ARGS)

storm: .venv/.installed-tests  ## 10,000 adds and 3,000 deletes, a fifth of all calls failing, 20 kills, and other weathers
	@STORM_ADDS=10000 STORM_DELETES=3000 STORM_KILLS=20 $(BIN)/python -m pytest -m "" -s tests/daemon/test_push_kills.py

# A daemon mostly waits, for its own pauses after a failure: eight keep two cores busy.
soak: .venv/.installed-tests  ## everything that can happen, in any order, for SOAK_MINUTES; SOAK_SEED repeats what happened
	@SOAK_MINUTES=$${SOAK_MINUTES:-10} SOAK_WORKERS=8 $(BIN)/python -m pytest -m "" -n 8 tests/simulation

fuzz: .venv/.installed-tests  ## 100,000 answers that no sane API would give; FUZZ_SEED says where they begin
	@FUZZ_CASES=$${FUZZ_CASES:-100000} $(BIN)/python -m pytest -n 3 tests/fuzz

mutants: .venv/.installed-tests  ## break each invariant of the design on purpose, in a copy, and see that a test notices
	@$(BIN)/python -m tests.mutants.run $(ARGS)

lint: .venv/.installed-tests  ## format, lint, types and the import contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: .venv/.installed-tests  ## renew both lock files
	@$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header --all-extras pyproject.toml -o tests/requirements.lock
	printf 'hatchling\n' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header -c tests/requirements.lock pyproject.toml - -o deploy/requirements.lock

clean:  ## remove everything that make has made
	rm -rf .venv .coverage* htmlcov .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else \
	  "voucher-sync needs Python 3.11 or newer, and this is %d.%d: name another with `make PYTHON=python3.12 ...`" % v)'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo 'python3 has no working venv module: install it (Debian: python3-venv)' >&2; exit 1; }

# The lock of the tests holds everything the runtime's lock does: one environment serves both commands.
.venv/.installed-runtime: deploy/requirements.lock pyproject.toml | .venv/bin/python
	@echo 'Installing voucher-sync into .venv (once) ...'
	@test -e .venv/.installed-tests || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.installed-tests: tests/requirements.lock pyproject.toml | .venv/bin/python
	@echo 'Installing voucher-sync and its test tools into .venv (once) ...'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

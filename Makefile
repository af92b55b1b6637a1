# `make demo` and `make test` need git, make and Python 3.11 or newer (with venv and pip), nothing else.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin

.PHONY: help demo test test-long test-pooler coverage storm soak crashpoints fuzz mutants bench idle fleet guard lint lock reference pictures dist clean installed-demo installed-tests installed-peers
help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: installed-demo  ## the daemon against a simulated API; ARGS="--seconds 20" ends it by itself
	@$(BIN)/python -m sync demo $(ARGS)

# Five workers even on two cores, since most tests wait for a process, a database or a socket. Whoever is done takes from
# the others: shared out beforehand, all the slow tests of a file are one worker's.
PYTEST := $(BIN)/python -m pytest -n $${PYTEST_WORKERS:-5} --dist worksteal
test: installed-tests  ## the test suite, less what takes long
	@$(PYTEST) $(ARGS)

# These wait even more: for clocks, and for processes that are started and killed.
test-long: installed-tests  ## the rest of it: commands, browsers, stress, kills and simulations, and what waits for the clock
	@export PYTEST_WORKERS=$${PYTEST_WORKERS:-6}; $(PYTEST) -m long $(ARGS)

test-pooler: installed-tests  ## outbox, mirror, daemon and fleet behind PgBouncer in transaction mode, which must be installed
	@POOLER=1 $(PYTEST) $(or $(ARGS),-m "" tests/outbox tests/mirror)
	@[ -n "$(ARGS)" ] || POOLER=1 $(PYTEST) tests/daemon tests/fleet

coverage: installed-tests  ## the test suite, and which branches it takes; processes that it starts are counted too
	@$(PYTEST) --cov --cov-report=term $(ARGS)

storm: installed-tests  ## 10,000 adds and 3,000 deletes, a fifth of all calls failing, 20 kills, and other fault profiles
	@STORM_ADDS=10000 STORM_DELETES=3000 STORM_KILLS=20 $(BIN)/python -m pytest -m "" -s tests/daemon/test_push_kills.py

# A daemon mostly waits, for its own pauses after a failure: eight keep two cores busy.
soak: installed-tests  ## everything that can happen, in any order, for SOAK_MINUTES; SOAK_SEED repeats what happened
	@SOAK_MINUTES=$${SOAK_MINUTES:-10} SOAK_WORKERS=8 $(BIN)/python -m pytest -m "" -n 8 tests/simulation

crashpoints: installed-tests  ## a kill, a cut line and a lost commit at every await and commit of a change and of an adoption; ARGS="--sample 50" for a part
	@$(BIN)/python -m tests.crashpoints.run $(ARGS)

fuzz: installed-tests  ## 100,000 answers that no sane API would give; FUZZ_SEED says where they begin
	@FUZZ_CASES=$${FUZZ_CASES:-100000} $(BIN)/python -m pytest -n 3 tests/fuzz

mutants: installed-tests  ## break each invariant on purpose, in a copy, and see that a test notices
	@$(BIN)/python -m tests.mutants.run $(ARGS)

bench: installed-demo installed-peers  ## ours, other ways and floors side by side, and growth, into benchmarks/RESULTS.md; QUICK=1 for a small run, GROWTH_MAX
	@$(BIN)/python benchmarks/bench.py $(if $(QUICK),--quick) $(ARGS)

idle: installed-demo  ## what hotels cost in which nothing happens; ARGS="--hotels 2000 --minutes 3"
	@$(BIN)/python benchmarks/idle.py $(ARGS)

fleet: installed-tests  ## replicas killed, paused, cut off and restarted: how late hotels are; ARGS="--hotels 20 --repeats 3" for a small run
	@$(BIN)/python benchmarks/fleet.py $(ARGS)

guard: installed-demo  ## whether ours has become slower, by ratios; ARGS=--accept writes down what is measured now
	@$(BIN)/python benchmarks/guard.py $(ARGS)

lint: installed-tests  ## format, lint, types and the import contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

LOCKED := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header
lock: installed-tests  ## renew the lock files: of the tests, from it those of demo, runtime and build, and of the peers
	@$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --upgrade $(LOCKED) --all-extras pyproject.toml -o tests/requirements.lock
	$(BIN)/uv pip compile --quiet $(LOCKED) -c tests/requirements.lock --extra demo pyproject.toml -o deploy/demo.lock
	$(BIN)/uv pip compile --quiet $(LOCKED) -c tests/requirements.lock pyproject.toml -o deploy/requirements.lock
	$(BIN)/uv pip compile --quiet --upgrade $(LOCKED) --group peers -o benchmarks/peers/requirements.lock
	printf '%s\n' hatchling pip | $(BIN)/uv pip compile --quiet $(LOCKED) -c tests/requirements.lock - -o deploy/build.lock

reference: installed-demo  ## write the pages of docs/reference/ anew, from the code and a migrated database
	@$(BIN)/python docs/reference/generate.py

pictures: installed-tests  ## take the pictures of docs/images/ anew, of a demo, with Debian's chromium
	@$(BIN)/python docs/images/take.py

# Without a date from outside, hatchling gives all files the same one: what comes out depends on the sources alone.
dist: installed-demo  ## source archive and wheel in dist/, the same bytes wherever they are built
	@rm -rf dist
	@umask 022; env -u SOURCE_DATE_EPOCH $(BIN)/python -m hatchling build

clean:  ## remove everything that make has made
	rm -rf .venv .venv-peers .bench dist .coverage* htmlcov .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# No PYTHONPATH, PYTHONHOME, PYTHONWARNINGS or other wish that a shell has for another program's Python.
unexport $(filter PYTHON%,$(.VARIABLES))

installed-demo installed-tests installed-peers:
	@"$(PYTHON)" -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else \
	  "voucher-sync needs Python 3.11 or newer, and this is %d.%d: name another with `make PYTHON=python3.12 ...`" % v)'
	@"$(PYTHON)" .ci/environment.py $(@:installed-%=%)

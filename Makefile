# The only commands; CI runs the same. Each makes .venv if it is not there, and installs what it needs.

MAKEFLAGS += --no-print-directory
PYTHON_IN_VENV := .venv/bin/python
TYPED := $(wildcard src tests examples benchmarks)

.PHONY: help demo test test-oldest test-given test-programs test-concurrency test-docs test-failover check generate bench bench-quick bench-correctness docs clean

help:
	@echo 'make demo    run the food delivery example on an embedded PostgreSQL'
	@echo 'make test    run the tests on the embedded PostgreSQL  (ARGS="-k append" runs some)'
	@echo 'make test-oldest'
	@echo '             run them on the PostgreSQL that is installed: CI has 15'
	@echo 'make test-given'
	@echo '             run them on the database of $$INDELIBLE_TEST_URL, as its superuser'
	@echo 'make test-programs'
	@echo '             run what takes longer: make test-concurrency (races, kills and storms),'
	@echo '             make test-failover (fail-overs and restores), and make test-docs (every page'
	@echo '             of the documentation, as a reader runs it, twice)'
	@echo 'make generate'
	@echo '             write the sync modules that are generated from the async ones'
	@echo 'make check   generated code, format, lint, types, import contracts, the built wheel'
	@echo 'make bench   measure all work beside other stores  (ARGS="--only reads" measures some;'
	@echo '             bench-quick: all of it in small; bench-correctness: who loses events)'
	@echo 'make docs    build the documentation into site/'
	@echo 'make clean   remove all that these commands made'

demo: .venv/.ready-run
	@.venv/bin/indelible demo $(ARGS)

# Most of a test's time is waiting for a server: one more at once than the two cores of the usual machine.
IN_PARALLEL := --numprocesses=3 --dist=worksteal

QUICK := --ignore=tests/concurrency --ignore=tests/docs --ignore=tests/failover

test: .venv/.ready-dev
	@INDELIBLE_TEST_SERVERS=embedded,given $(PYTHON_IN_VENV) -m pytest $(IN_PARALLEL) \
		$(QUICK) $(ARGS)

test-oldest: .venv/.ready-dev
	@INDELIBLE_TEST_SERVERS=system $(PYTHON_IN_VENV) -m pytest $(IN_PARALLEL) \
		$(QUICK) -k system $(ARGS)

test-given: .venv/.ready-dev
	@INDELIBLE_TEST_SERVERS=given $(PYTHON_IN_VENV) -m pytest $(IN_PARALLEL) \
		$(QUICK) -k given $(ARGS)

test-concurrency: .venv/.ready-dev
	@$(PYTHON_IN_VENV) -m pytest $(IN_PARALLEL) tests/concurrency $(ARGS)

test-programs: test-concurrency test-docs test-failover

# Every page of the documentation, as a reader runs it.
test-docs: .venv/.ready-pages
	@INDELIBLE_TEST_SERVERS=embedded $(PYTHON_IN_VENV) -m pytest $(IN_PARALLEL) tests/docs $(ARGS)

# Each course of a fail-over is run once: its tests stay in one process.
test-failover: .venv/.ready-dev
	@$(PYTHON_IN_VENV) -m pytest --numprocesses=3 --dist=loadscope tests/failover $(ARGS)

generate: .venv/.ready-dev
	@$(PYTHON_IN_VENV) .ci/generate_sync.py

check: .venv/.ready-dev
	@echo '== generated code'
	@$(PYTHON_IN_VENV) .ci/generate_sync.py --check
	@echo '== format'
	@.venv/bin/ruff format --check .
	@echo '== lint'
	@.venv/bin/ruff check .
	@echo '== types'
	@$(PYTHON_IN_VENV) -m mypy $(TYPED) .ci/generate_sync.py
	@echo '== imports'
	@.venv/bin/lint-imports --no-logo
	@echo '== wheel'
	@.ci/wheel

bench: .venv/.ready-bench
	@$(PYTHON_IN_VENV) -m benchmarks $(ARGS)

bench-quick: .venv/.ready-bench
	@$(PYTHON_IN_VENV) -m benchmarks --quick $(ARGS)

bench-correctness: .venv/.ready-bench
	@$(PYTHON_IN_VENV) -m benchmarks --correctness $(ARGS)

docs: .venv/.ready-docs
	@NO_MKDOCS_2_WARNING=1 $(PYTHON_IN_VENV) -m mkdocs build --strict --quiet
	@echo 'site/index.html'

clean:
	@rm -rf .venv build dist site htmlcov .coverage .coverage.* .hypothesis \
		.import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# .venv with the package in it (run), and with one dependency group more. Anew whenever
# pyproject.toml changes.
.venv/.ready-run: pyproject.toml .ci/venv
	@.ci/venv run

.venv/.ready-dev .venv/.ready-pages .venv/.ready-docs .venv/.ready-bench: .venv/.ready-%: .venv/.ready-run
	@.ci/venv $*

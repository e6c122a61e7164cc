# All commands of the project; CI runs the same. Each creates .venv if necessary, and installs what
# it needs.

MAKEFLAGS += --no-print-directory
PYTHON_IN_VENV := .venv/bin/python
TYPED := $(wildcard src tests examples benchmarks)

.PHONY: help demo test test-oldest test-given test-programs test-concurrency test-docs test-failover test-server test-kurrentdb test-pages pictures check generate bench bench-quick bench-correctness docs clean

help:
	@echo 'make demo    run the food delivery example on an embedded PostgreSQL'
	@echo 'make test    run the tests on the embedded PostgreSQL  (ARGS="-k append" runs some)'
	@echo 'make test-oldest'
	@echo '             run them on the installed PostgreSQL (15 in CI)'
	@echo 'make test-given'
	@echo '             run them on the database of $$INDELIBLE_TEST_URL, as its superuser'
	@echo 'make test-programs'
	@echo '             run the long tests: make test-concurrency (races, kills and storms),'
	@echo '             make test-failover (fail-overs and restores), make test-server (over HTTP),'
	@echo '             make test-kurrentdb (clients of KurrentDB),'
	@echo '             make test-pages (the page in a browser), and make test-docs (every page'
	@echo '             of the documentation, as a reader runs it, twice)'
	@echo 'make generate'
	@echo '             write the sync modules from the async ones, and modules from .proto files'
	@echo 'make check   check generated code, format, lint, types, imports and the built wheel'
	@echo 'make bench   measure all workloads next to other stores  (ARGS="--only reads": some;'
	@echo '             bench-quick: all with little data; bench-correctness: count lost events)'
	@echo 'make docs    build the documentation into site/'
	@echo 'make pictures'
	@echo '             take the pictures of the page in the documentation, with chromium'
	@echo 'make clean   remove everything that these commands created'

demo: .venv/.ready-run
	@.venv/bin/indelible demo $(ARGS)

# Tests mostly wait for a server: use one process more than the two cores of the usual machine.
IN_PARALLEL := --numprocesses=3 --dist=worksteal

QUICK := --ignore=tests/concurrency --ignore=tests/docs --ignore=tests/failover \
	--ignore=tests/kurrentdb --ignore=tests/server --ignore=tests/remote --ignore=tests/web

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

test-programs: test-concurrency test-docs test-failover test-server test-kurrentdb test-pages

# Every page of the documentation, as a reader runs it.
test-docs: .venv/.ready-pages
	@INDELIBLE_TEST_SERVERS=embedded $(PYTHON_IN_VENV) -m pytest $(IN_PARALLEL) tests/docs $(ARGS)

# Each fail-over scenario runs once, so its tests stay in one process.
test-failover: .venv/.ready-dev
	@$(PYTHON_IN_VENV) -m pytest --numprocesses=3 --dist=loadscope tests/failover $(ARGS)

# The server, and the client that uses it, over HTTP. The client knows nothing of the database, so
# one version is enough for it.
test-server: .venv/.ready-dev
	@$(PYTHON_IN_VENV) -m pytest $(IN_PARALLEL) tests/server $(ARGS)
	@INDELIBLE_TEST_SERVERS=embedded $(PYTHON_IN_VENV) -m pytest $(IN_PARALLEL) tests/remote $(ARGS)

# The server for KurrentDB's clients, with those of Python and, if npm is there, of Node.
test-kurrentdb: .venv/.ready-dev .venv/node
	@INDELIBLE_TEST_SERVERS=embedded INDELIBLE_TEST_KURRENTDB_NODE=$(CURDIR)/.venv/node \
		$(PYTHON_IN_VENV) -m pytest $(IN_PARALLEL) tests/kurrentdb $(ARGS)

.venv/node: | .venv/.ready-dev
	@mkdir -p $@
	@command -v npm >/dev/null && npm install --silent --no-audit --no-fund --prefix $@ \
		@kurrent/kurrentdb-client@1.3.1 || echo 'The client of Node is not installed: its test is skipped.'

# The page, in a browser. One version of PostgreSQL is enough for it.
test-pages: .venv/.ready-dev
	@INDELIBLE_TEST_SERVERS=embedded $(PYTHON_IN_VENV) -m pytest $(IN_PARALLEL) tests/web $(ARGS)

generate: .venv/.ready-dev
	@$(PYTHON_IN_VENV) .ci/generate_sync.py
	@$(PYTHON_IN_VENV) .ci/generate_proto.py

check: .venv/.ready-dev
	@echo '== generated code'
	@$(PYTHON_IN_VENV) .ci/generate_sync.py --check
	@$(PYTHON_IN_VENV) .ci/generate_proto.py --check
	@echo '== format'
	@.venv/bin/ruff format --check .
	@echo '== lint'
	@.venv/bin/ruff check .
	@echo '== types'
	@$(PYTHON_IN_VENV) -m mypy $(TYPED) .ci/generate_sync.py .ci/generate_proto.py
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

pictures: .venv/.ready-dev
	@$(PYTHON_IN_VENV) -m tests.web.pictures docs/assets/page

clean:
	@rm -rf .venv build dist site htmlcov .coverage .coverage.* .hypothesis \
		.import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# .venv with the package (run), and with one more dependency group. Installed again whenever
# pyproject.toml changes.
.venv/.ready-run: pyproject.toml .ci/venv
	@.ci/venv run

.venv/.ready-dev .venv/.ready-pages .venv/.ready-docs .venv/.ready-bench: .venv/.ready-%: .venv/.ready-run
	@.ci/venv $*

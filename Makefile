# Every command installs what it needs into .venv first, once: `make demo` and `make test` work on a fresh clone.

# The first Python on the path that is new enough. Another one: make test PYTHON=/path/to/python
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,\
	$(shell $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo models test test-default-flags test-default-flags-short check lint types docs rooms format bench dist
.PHONY: test-lowest clean

help:
	@echo "make demo         solve and differentiate two small systems, and draw them in demo.png"
	@echo "make models       solve the models of examples/ at full size, and draw docs/images/*.png"
	@echo "make test         run all tests"
	@echo "make test-default-flags        the same, compiled as a user's programs are: half an hour"
	@echo "make test-default-flags-short  of these the lanes, the accuracy, several devices"
	@echo "make rooms        draw the rooms of the package in docs/images/rooms.png"
	@echo "make check        what a change has to pass: lint, types, docs, test"
	@echo "make format       format the code, and repair what ruff can repair"
	@echo "make docs         build the pages in site/"
	@echo "make bench        measure the speed beside other libraries: a quarter of an hour; docs/speed.md"
	@echo "make dist         build the wheel and the sdist in dist/"
	@echo "make test-lowest  run the tests with the lowest versions of the dependencies"
	@echo "make clean        remove everything made by the commands above"

demo: $(VENV)/.installed-cli
	$(BIN)/implicitax demo

# One only: make models MODELS=canopy
MODELS ?= canopy digits bratu demand powergrid reaction
models: $(VENV)/.installed-dev
	@set -e; for model in $(MODELS); do \
		echo "== $$model"; \
		$(BIN)/python examples/$$model.py --full --figure docs/images/$$model.png; \
	done

# A file is run by one worker, so that what it compiles once is compiled once; the longest come first.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# tests/conftest.py has XLA compile quickly, which programs that run once want.
test: $(VENV)/.installed-dev
	$(PYTEST)

test-default-flags: $(VENV)/.installed-dev
	IMPLICITAX_XLA_DEFAULTS=1 $(PYTEST)

# Those that are marked, which may depend on how XLA optimises: accuracy, what one lane or row does to another, the
# typing inside `shard_map`.
test-default-flags-short: $(VENV)/.installed-dev
	IMPLICITAX_XLA_DEFAULTS=1 $(PYTEST) -m default_flags

# The tests come last, so that their summary is what one sees.
check: lint types docs test

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed-dev
	$(BIN)/pyright

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

rooms: $(VENV)/.installed-dev
	$(BIN)/python tests/rooms.py

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# One regime only, or a quick look: make bench BENCH='--only small --quick'
BENCH ?=
bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks.speed $(BENCH)

dist: $(VENV)/.installed-dev
	rm -rf dist
	$(BIN)/python -m build

# An environment of its own, with the lowest versions of what the package itself depends on.
test-lowest:
	$(MAKE) test VENV=.venv-lowest CONSTRAINTS=constraints/lowest.txt

clean:
	rm -rf .venv .venv-lowest build dist site demo.png

# A stamp says that an extra is installed; a change of pyproject.toml makes it stale. The installation is editable, so
# a change of the sources does not.
CONSTRAINTS ?=
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS))

$(VENV)/.installed-cli: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(INSTALL) -e '.[cli]'
	@touch $@

# `dev` contains `cli`.
$(VENV)/.installed-dev: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(INSTALL) -e '.[dev]'
	@touch $(VENV)/.installed-cli $@

# Beside `dev`, not in it: no test needs the other libraries.
$(VENV)/.installed-bench: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(INSTALL) -e '.[bench]'
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "implicitax needs Python 3.11 or newer: make ... PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)

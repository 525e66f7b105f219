# The commands of the project. Each makes what it needs; none needs another to be run first.

VENV := .venv
PYTHON := $(VENV)/bin/python
JOBS := $(shell nproc)
PYTEST := $(PYTHON) -m pytest
# Side by side; who is done early takes from who is not.
BESIDE := -n $(JOBS) --dist=worksteal
# What is run compiled and pure is measured in the second run only, which sees as Python what the
# first one has compiled: the tracer takes as long as half of the tests.
COVERED := $(PYTEST) --cov --cov-report= --cov-fail-under=0
# The examples one by one: a page must not be cut in two, and a server on memcached's usual port is
# theirs alone.
EXAMPLES := README.md docs
CORE := tiered/_core.pyx $(wildcard tiered/compiled/*.pxi)

.PHONY: help demo test check memcheck bench kills soak docs clean memcached

help:  ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/.ready:
	sh tools/make-venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.ready setup.cfg pyproject.toml $(CORE)
	$(PYTHON) -m pip install --quiet --editable .
	touch $@

# Where it could not be built before, and can now.
$(VENV)/.core: $(VENV)/.installed tools/ensure-compiler
	@sh tools/ensure-compiler $(PYTHON)
	@TIERED_PURE=0 $(PYTHON) -c 'import tiered._core' 2>/dev/null \
		|| $(PYTHON) -m pip install --quiet --editable .
	touch $@

$(VENV)/.tools: $(VENV)/.installed setup.cfg pyproject.toml
	$(PYTHON) -m pip install --quiet --editable '.[test]'
	touch $@

$(VENV)/.peers: $(VENV)/.installed setup.cfg pyproject.toml
	$(PYTHON) -m pip install --quiet --editable '.[bench]'
	touch $@

$(VENV)/.docs: $(VENV)/.installed setup.cfg pyproject.toml
	$(PYTHON) -m pip install --quiet --editable '.[docs]'
	touch $@

demo: $(VENV)/.installed  ## Run the demo: a real job on tiers (ARGS='--help' for its options)
	@$(PYTHON) -m tiered demo $(ARGS)

memcached:
	@sh tools/ensure-memcached

test: $(VENV)/.tools $(VENV)/.core memcached  ## Run the whole suite, compiled and in pure Python
ifdef ARGS
	$(PYTHON) -m pytest $(ARGS)
	TIERED_PURE=1 $(PYTHON) -m pytest $(ARGS)
else
	$(PYTEST) $(BESIDE) --part=twice tests
	$(PYTEST) --part=twice-alone tests
	$(PYTEST) $(EXAMPLES)
	$(COVERED) $(BESIDE) --part=once tests
	$(COVERED) --cov-append --part=once-alone tests
	TIERED_PURE=1 $(COVERED) --cov-append $(BESIDE) --part=twice tests
	TIERED_PURE=1 $(COVERED) --cov-append --part=twice-alone tests
	TIERED_PURE=1 $(PYTEST) --cov --cov-append --cov-report=term $(EXAMPLES)
endif

check: $(VENV)/.tools $(VENV)/.core memcached  ## Lint, format, types, layers, and the examples of the docs
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PYTHON) -m pytest --quiet README.md docs

memcheck: $(VENV)/.tools $(VENV)/.core  ## Fuzz the compiled core where errors of memory show (valgrind)
	sh tools/memcheck $(PYTHON)

bench: $(VENV)/.peers memcached  ## Measure beside other caches, and write it into the docs (TRACES=folder)
	$(PYTHON) bench/report.py $(if $(TRACES),--traces '$(TRACES)') $(ARGS)

kills: $(VENV)/.tools $(VENV)/.core  ## Kill processes that share files, 200 times and at each step
	TIERED_KILLS=200 TIERED_CRASHES=1000 TIERED_STARTS=200 $(PYTEST) --timeout=3600 tests/processes/test_files_processes.py \
		tests/processes/test_files_crashes.py

soak: $(VENV)/.tools $(VENV)/.core memcached  ## A minute on servers that die, with a checker (ARGS='--help')
	$(PYTHON) bench/soak.py $(ARGS)

docs: $(VENV)/.docs  ## Build the documentation into site/
	$(VENV)/bin/mkdocs build --strict

clean:  ## Remove everything that was made
	rm -rf $(VENV) build dist site *.egg-info tiered/_core.c tiered/_core.*.so .mypy_cache .pytest_cache .ruff_cache \
		.import_linter_cache .hypothesis .coverage*

# The commands of the project. Each makes what it needs; none needs another to be run first.

VENV := .venv
PYTHON := $(VENV)/bin/python

.PHONY: help demo test check bench docs clean memcached

help:  ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/.ready:
	sh tools/make-venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.ready setup.cfg pyproject.toml
	$(PYTHON) -m pip install --quiet --editable .
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

test: $(VENV)/.tools memcached  ## Run the whole suite against a real memcached
	$(PYTHON) -m pytest --cov --cov-report=term $(ARGS)

check: $(VENV)/.tools memcached  ## Lint, format, types, layers, and the examples of the docs
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PYTHON) -m pytest --quiet README.md docs

bench: $(VENV)/.peers memcached  ## Measure beside other caches, and write it into the docs (TRACES=folder)
	$(PYTHON) bench/report.py $(if $(TRACES),--traces '$(TRACES)') $(ARGS)

docs: $(VENV)/.docs  ## Build the documentation into site/
	$(VENV)/bin/mkdocs build --strict

clean:  ## Remove everything that was made
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache \
		.import_linter_cache .hypothesis .coverage*

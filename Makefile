SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
READY := $(VENV)/.ready
WEB := clients/web

.DEFAULT_GOAL := help

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## Make .venv and install everything into it

$(READY): pyproject.toml constraints.txt
	@echo "Setting up .venv (about two minutes the first time) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,tracing,web]'
	@touch $@

demo: $(READY) ## Run the main job on embedded stores: ingest, ask in French and Arabic, a quiz, the ledger
	@bacmr demo

run: $(READY) ## Keep a server up for grpcurl and the web page
	@bacmr serve

test: $(READY) ## Run the whole suite, offline
	@python -m pytest -q -n 2 --dist loadscope

test-milvus: $(READY) ## Vectors and reindexing over a real Milvus server, installed beside .venv (needs root and python3.11)
	@test -x .milvus/bin/milvus-server || { python3.11 -m venv .milvus && .milvus/bin/pip install --quiet milvus==2.3.5 'setuptools<80'; }
	@unshare -n .milvus/bin/python scripts/with_milvus_server.py $(CURDIR)/$(BIN)/python -m pytest -q -m milvus_server tests/contract/test_vectors_contract.py tests/service/indexes

lint: $(READY) ## Style, types, import rules, the contract and its generated code
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports
	@buf lint
	@buf format -d --exit-code
	@scripts/breaking.sh
	@scripts/protos_are_current.sh
	@scripts/web_is_current.sh

check: lint test ## All that must pass before a change lands

protos: $(READY) ## Make the stubs again from protos/
	@buf format -w && buf generate 2>/dev/null
	@find clients/python -name '*_pb2_grpc.pyi' -size -600c -delete
	@if [ -d $(WEB)/node_modules ]; then $(MAKE) --no-print-directory web; else echo "$(WEB): 'make web' makes its stubs and page (needs node)"; fi

web: $(READY) ## Make the web page again from clients/web/src (needs node)
	@cd $(WEB) && if [ ! -d node_modules ]; then npm ci --ignore-scripts --no-audit --no-fund >/dev/null; fi
	@cd $(WEB) && buf generate 2>/dev/null && node_modules/.bin/tsc -p . && node_modules/.bin/tsc -p tsconfig.worker.json && node --test tests/ >/dev/null && node build.mjs

release: $(READY) ## Record the contract and the queries that the next release must not break
	@buf build protos -o protos/released.binpb
	@PYTHONPATH=.:clients/python python scripts/record_queries.py

bench: $(READY) ## Print each speed next to its limit
	@python -m benchmarks

chaos: $(READY) ## Kill each part of a server under load; print what failed, what recovered when, and the books
	@python -m benchmarks.chaos

eval: $(READY) ## Print each quality figure next to its limit: make eval DATA=folder
	@python -m evals $(DATA)

.PHONY: help setup demo run test test-milvus lint check protos web bench chaos eval

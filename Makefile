SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
READY := $(VENV)/.ready

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

lint: $(READY) ## Style, types, import rules, the contract and its generated code
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports
	@buf lint
	@buf format -d --exit-code
	@scripts/breaking.sh
	@scripts/protos_are_current.sh

check: lint test ## All that must pass before a change lands

protos: $(READY) ## Make the stubs again from protos/
	@buf format -w && buf generate 2>/dev/null
	@find clients/python -name '*_pb2_grpc.pyi' -size -600c -delete

bench: $(READY) ## Print each speed next to its limit
	@python -m benchmarks

eval: $(READY) ## Print each quality figure next to its limit: make eval DATA=folder
	@python -m evals $(DATA)

.PHONY: help setup demo run test lint check protos bench eval

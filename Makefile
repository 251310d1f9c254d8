# The whole interface of the project: every target is what continuous integration runs too.
# Only Python 3.11+ and make are needed; everything else goes into .venv and .lab.
PYTHON ?= python3
BIN := .venv/bin
# Most tests wait for servers, so two sides by side halve the time even on two cores.
PYTEST_WORKERS ?= 2
PYTEST_ARGS ?=
OBSERVE_TRIES ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup check observe test demo up down bench lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

setup: ## install everything into .venv (hash-locked; quick when done)
	@$(PYTHON) .ci/setup.py

check: setup ## lint, types and import rules; no server is started
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

observe: setup ## Prometheus and Alertmanager for `symphony up --observe` (Debian, Ubuntu; no root)
	@$(BIN)/python -m chaos.observe.install --tries $(OBSERVE_TRIES)

# With REQUIRE_PROMETHEUS=1 (.ci/run) a test that lacks Prometheus fails instead of being skipped.
test: check ## everything: checks, then all tests on a real broker and a real database
ifeq ($(REQUIRE_PROMETHEUS),1)
	@$(MAKE) -s observe OBSERVE_TRIES=4
else
	@$(MAKE) -s observe || echo "note: tests that need Prometheus will be skipped"
endif
	@$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadscope $(PYTEST_ARGS)

demo: setup ## the platform in one command: orders, kills, audit, one URL
	@$(BIN)/symphony demo

up: setup ## start the embedded lab in the background
	@$(BIN)/symphony up --detach

down: ## stop it
	@$(BIN)/symphony down

bench: setup ## measure on this machine (minutes)
	@$(BIN)/python -m bench

lock: setup ## resolve the dependencies anew
	@.ci/lock

clean: ## stop the lab and remove all that was built, the .venv included
	@if [ -x $(BIN)/symphony ]; then $(BIN)/symphony down --purge; fi
	@rm -rf .venv .lab build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

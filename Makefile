# The verbs of the project. `make` alone lists them; each makes what it needs first.
#
#   make run ARGS="--trace FILE"     the comparison on your own trace
#   make run PYTHON=python3.12       another interpreter for the environment

PYTHON := $(or $(shell command -v python3.11 2>/dev/null),python3)
VENV := .venv
BIN := $(VENV)/bin
VLLM := build/vllm
FLOOR := 90

# uv installs faster and is used when it is here; pip does the same with nothing but Python.
INSTALL := $(if $(shell command -v uv 2>/dev/null),uv pip install --python $(BIN)/python,$(BIN)/python -m pip install)
INSTALL += --constraint constraints.txt

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install dev run test coverage vllm check fix docs bench clean

help: ## list the verbs
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 10

install: $(VENV)/installed ## environment with what `make run` needs

dev: $(VENV)/installed-dev ## environment with everything: agents, tests, linters

run: install ## every router policy on the default workload
	$(BIN)/python experiments/run.py --env llm_router $(ARGS)

test: dev ## all tests
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal -m "not real_server"
	$(BIN)/python -m pytest -m real_server tests/vllm

coverage: dev ## the kernels as plain Python, with a floor on branch coverage
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal \
	    -m "not slow_in_python" --cov=envs --cov=traces --cov=baselines \
	    --cov-report=term --cov-report=json tests/envs tests/traces tests/baselines
	$(BIN)/python tests/branch_coverage.py build/coverage.json $(FLOOR) envs/llm traces baselines

vllm: $(VLLM)/vllm-installed ## the real vLLM on the CPU, for the tests that compare with it

check: dev ## lint, format and types, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

fix: dev ## mend what the linter can, and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: dev ## run every example of the documents, and check their links
	$(BIN)/python -m pytest tests/test_docs.py

bench: install ## speed of the LLM serving world
	$(BIN)/makespan bench llm $(ARGS)

clean: ## remove the environment and every cache; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .coverage* .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The stamps are older than their inputs after an edit of either file, which installs again.
$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable .
	@touch $@

# torch goes first and by itself: asked for together with what depends on it, the resolver may
# begin with a CUDA build of several gigabytes. pip does it, not uv, because a locally configured
# folder or index with a CPU build is known to pip's configuration only.
$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --constraint constraints.txt torch==2.13.0
	$(INSTALL) --editable ".[dev]"
	@touch $(VENV)/installed $@

# An environment of its own: vLLM's pins differ from the project's. Some 3.5 GB.
$(VLLM)/vllm-installed: tests/vllm/install.py
	$(PYTHON) tests/vllm/install.py $(VLLM)

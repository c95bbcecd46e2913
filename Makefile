# Two commands do everything on a fresh machine: make run, make test.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
READY := .venv/.ready
TEST_PACKAGES := nginx strace iproute2 etcd-server etcd-client
export PYTHON
export PATH := $(CURDIR)/.bootstrap/bin:$(PATH)

.PHONY: help setup run test test-long drill lint format docs bench clean

help: ## these lines
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml uv.lock .ci/setup
	@.ci/setup
	@touch $@

setup: $(READY) ## the environment alone: Python packages into .venv

run: $(READY) ## control plane and edge, with the demo shop and Contoso (ARGS="…" adds options)
	@exec $(BIN)/holdfast dev --open \
	  --import examples/demo-shop.flagd.json --service demo-shop --environment production \
	  examples/contoso $(ARGS)

lint: $(READY) ## style, types, layers, dead code
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "make format puts that right"; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo 2>&1 | tail -n 20; exit $${PIPESTATUS[0]}
	@$(BIN)/vulture

# A worker that dies ends the run and names its test: with loadfile xdist would wait for it forever.
test: lint ## lint, then every test but the long forms
	@.ci/apt $(TEST_PACKAGES)
	@$(BIN)/pytest -q -m "alone and not long"
	@$(BIN)/pytest -q -n 2 --dist loadfile --max-worker-restart 0 -m "not long and not alone"

test-long: $(READY) ## the long forms: properties by the ten thousand, against other implementations
	@.ci/apt $(TEST_PACKAGES)
	@$(BIN)/pytest -q -m "alone and long" --timeout 1800
	@$(BIN)/pytest -q -n 2 --dist loadfile --max-worker-restart 0 -m "long and not alone" --timeout 1800

drill: $(READY) ## all faults and game days in full; writes docs/reliability.md (ONLY="names" for some)
	@.ci/apt $(TEST_PACKAGES)
	@$(BIN)/holdfast drill run $(or $(ONLY),everything) --report docs/reliability

format: $(READY) ## put the style right
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

docs: $(READY) ## write the pages that are made from the code
	@$(BIN)/python -m holdfast.apps.cli.pages docs/reference/cli.md
	@$(BIN)/python -m holdfast.apps.control.openapi_file docs/reference/openapi.json
	@$(BIN)/holdfast schema > docs/reference/settings.schema.json
	@$(BIN)/holdfast policy schema > docs/reference/policy.schema.json
	@$(BIN)/holdfast simulate schema > docs/reference/simulation.schema.json

bench: $(READY) ## measure against the others; writes docs/benchmarks.md
	@for program in wrk nginx; do command -v $$program >/dev/null || .ci/apt $$program; done
	@$(BIN)/python benchmarks/run.py

clean: ## remove what make made; keeps .holdfast, the data of make run
	@rm -rf .venv .bootstrap .bench .oracle .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

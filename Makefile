# Two commands do everything on a fresh machine: make run, make test.
.DEFAULT_GOAL := help
SHELL := /bin/bash

help: ## these lines
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

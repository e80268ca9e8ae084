# mailsigil: what you can do here. `make` alone lists it.
SHELL := /bin/bash
VENV  := $(or $(MAILSIGIL_VENV),.venv)
PY    := $(VENV)/bin/python
ONCE  ?=
REVISION ?= 1
# Messages in one language, and none about a locale that the machine does not have.
export LC_ALL := C.UTF-8
# Tests start many processes, and none of them should compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test quick check bench deb clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

run: ## see it work: a throwaway organisation on a private Postfix (ONCE=1 ends after the demonstration)
	@packaging/prepare run
	@$(VENV)/bin/mailsigil demo $(if $(ONCE),--once)

test: ## install what is missing and pass all tests
	@packaging/prepare test
	@$(PY) -m pytest -q -n 2 --dist loadgroup

quick: ## the everyday tests, without real servers, in about a minute
	@packaging/prepare test
	@$(PY) -m pytest -q -n 4 -m "not integration"

check: ## ruff and mypy strict
	@packaging/prepare test
	@$(VENV)/bin/ruff check milter tests
	@$(VENV)/bin/ruff format --check milter tests
	@$(VENV)/bin/mypy

bench: ## throughput, CPU and memory beside peers and a floor, in one run
	@packaging/prepare bench
	@$(PY) tests/bench/run.py
	@for part in verify cold corpora ldap sources est lifecycle dovecot delivery; do echo; $(PY) tests/bench/$$part.py || exit; done

deb: ## build a Debian package in dist (REVISION=2 for a newer build of the same version)
	@packaging/prepare deb
	@packaging/deb "$(REVISION)"

clean: ## remove what the targets made
	rm -rf .venv .run .pytest_cache .mypy_cache .ruff_cache .hypothesis dist

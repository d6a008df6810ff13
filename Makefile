# Every target does its own set-up: git, make and python3 are all that a machine needs to have.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test lint bench setup lock clean lab-setup

ARGS ?=

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' Makefile

demo: lab-setup  ## a rolling deploy under load, with the agent and without: build/demo/
	.venv/bin/zdd-lab demo

test: setup  ## every test; ARGS='-k drain' picks some
	.venv/bin/pytest -n 2 --dist loadscope $(ARGS)

lint: setup  ## style, types, layers and the syntax of the scripts
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	@set -e; for script in scripts/*.sh .ci/run; do bash -n "$$script"; done

bench: setup  ## what the command, the daemon and the lab's data plane cost
	@set -e; for bench in tests/bench/bench_*.py; do .venv/bin/python "$$bench"; done

setup:  ## everything that the other targets need, and nothing more
	@scripts/setup.sh dev

lab-setup:
	@scripts/setup.sh lab

lock: setup  ## pin again after a change of pyproject.toml; ARGS=--upgrade takes the newest
	scripts/lock.sh $(ARGS)

clean:  ## back to a fresh clone
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Every target does its own set-up: git, make and python3 are all that a machine needs to have.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo story test test-system package soak lint bench bench-drain setup lock clean lab-setup

ARGS ?=

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: lab-setup  ## a rolling deploy under load, with the agent and without: build/demo/
	.venv/bin/zdd-lab demo

test: setup  ## the tests; ARGS='-k drain' picks some
	@scripts/test.sh $(ARGS)

test-system: setup  ## the installed package on hosts with real systemd (root)
	@scripts/test.sh --system $(ARGS)

story: setup  ## Terraform, hosts, Ansible and a loop of requests, in the lab: build/story/
	.venv/bin/python scripts/story.py

package: setup  ## deb and rpm, amd64 and arm64: build/package/ (root, for the cross compiler)
	@scripts/system-packages.sh package
	.venv/bin/pip install -q --require-hashes -r packaging/tools.txt
	PYTHONPATH=agent .venv/bin/python packaging/build.py

lint: setup  ## style, types, layers and the syntax of the scripts
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	@set -e; for script in scripts/*.sh .ci/run; do bash -n "$$script"; done; \
		for script in packaging/ssh/*.sh packaging/codedeploy/hooks/*.sh; do sh -n "$$script"; done
	@if command -v systemd-analyze >/dev/null; then set -e; \
		systemd-analyze security --offline=true --threshold=12 systemd/zdd-agent.service >/dev/null; \
		systemd-analyze security --offline=true --threshold=20 systemd/zdd-netns.service >/dev/null; else echo 'left out: systemd-analyze security (no systemd here)'; fi

bench: setup  ## what the command, the daemon, the sensor and the lab's data plane cost
	@set -e; for part in agent sensor container data_plane; do .venv/bin/python tests/bench/bench_$$part.py; done

bench-drain: setup  ## true length, up to an hour: side by side with what people use, and how drains end
	.venv/bin/python tests/bench/bench_drain.py
	.venv/bin/python tests/bench/bench_true_length.py

soak: setup  ## a longer run of tests/faults, tests/model, tests/race, and slots: a million steps of each model, more of each race
	ZDD_SOAK=1 .venv/bin/pytest -n 2 --dist loadscope tests/faults tests/model tests/race tests/lab/test_slots_at_once.py \
		tests/lab/test_slots_race.py $(ARGS)

setup:  ## everything that the other targets need, and nothing more
	@scripts/setup.sh dev

lab-setup:
	@scripts/setup.sh lab

lock: setup  ## pin again after a change of pyproject.toml; ARGS=--upgrade takes the newest
	scripts/lock.sh $(ARGS)

clean:  ## back to a fresh clone
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

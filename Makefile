# `make` lists the targets. Each is a short way to type what stands in it.
SHELL := /bin/bash
INVENTORY ?= inventory/lab
MACHINE ?= virt
# What stands here works with spaces in the clone's path: only relative names, no functions on it.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export YES
# Without byte code on the disk, every start of torch compiles it anew: 3.3 CPU seconds instead of 1.5.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo system venv simulation requirements locks lab-up lab-down verify tensorboard lint check test \
  test-all test-python test-mixed test-reset test-flower test-locks faults board cores clean
.DEFAULT_GOAL := help

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

demo: ## From nothing to a trained model and a prediction (YES=1: no question)
	@scripts/demo.sh

system: ## Install the system packages that the lab needs, after a question
	@scripts/system.sh

venv: ## Make .venv from the pinned requirements.txt
	@scripts/venv.sh

simulation: venv ## Install what --engine simulation needs beside it: Ray, 70 MB
	@cmp -s requirements-simulation.txt .venv/requirements-simulation.txt || \
	  { pip --disable-pip-version-check install --quiet --no-compile -r requirements-simulation.txt && \
	    cp requirements-simulation.txt .venv/; }

requirements: ## Pin requirements.in anew to requirements.txt (needs uv)
	uv pip compile --universal --python-version 3.11 --find-links https://download.pytorch.org/whl/cpu/torch/ \
	  --no-emit-find-links requirements.in -o requirements.txt
	uv pip compile --universal --python-version 3.11 --constraint requirements.txt --no-annotate \
	  --no-emit-find-links requirements-simulation.in -o requirements-simulation.txt

locks: venv ## Lock the nodes' wheels anew, after a change of requirements or node.in
	python roles/wheelhouse/files/lock.py

lab-up: venv ## Start the virtual nodes of inventory/lab
	ansible-playbook playbooks/lab_up.yml

lab-down: ## Remove the virtual nodes, their network, image and keys (ALL=1: labs of deleted clones)
	python3 lab/down.py $(if $(filter 1,$(ALL)),--all) $(if $(LAB),--lab "$(LAB)")

verify: venv ## Check the nodes of INVENTORY=inventory/lab over SSH
	pytest tests/roles --inventory "$(INVENTORY)"

tensorboard: venv ## Look at all runs in TensorBoard, on this machine alone
	tensorboard --logdir runs --host 127.0.0.1

lint: venv ## Style and types
	@scripts/lint.sh

check: ## Lint, types, units and contracts, without nodes (three minutes)
	@scripts/test.sh check

test: ## All of check, a browser, nodes, an emulated core (25 minutes; YES=1: no question)
	@scripts/test.sh

test-all: ## The longer suites below, one after the other, whatever fails (three hours; YES=1)
	@scripts/test_all.sh test-python test-mixed test-reset test-flower test-locks faults cores board

test-python: venv ## Build Python on a node of Debian 11, and all that stands on it (ten minutes)
	pytest --verbose -m apart tests/e2e/test_python.py

test-mixed: venv ## A cluster of Debian 12 and 13 (four minutes)
	pytest --verbose -m apart tests/e2e/test_mixed.py

test-reset: venv ## Two nodes upgraded and taken back to what they were; a lying node (ten minutes)
	pytest --verbose -m apart tests/e2e/test_back_again.py tests/e2e/test_lying_node.py

test-locks: venv ## Every wheel of every lock for a Pi is on the index, with its hash (700 MB)
	pytest --verbose -m "apart or download" tests/e2e/test_locks.py

test-flower: simulation ## SuperNodes on two nodes; simulation and SuperLink here (a quarter of an hour)
	pytest --verbose -m apart tests/e2e/test_flower.py tests/e2e/test_simulation.py tests/e2e/test_superlink.py

board: venv ## A Pi from blank card to model, emulated, an hour (OS=bookworm; MACHINE=raspi3b; YES=1)
	@scripts/system.sh board
	@python -m board.run $(OS:%=--os %) --machine "$(MACHINE)"

cores: venv ## The locked wheels on the emulated cores of a Pi 3, 4 and 5, a quarter of an hour (YES=1)
	@scripts/system.sh cores
	@python -m board.cores

faults: venv ## What nodes, networks and the controller can do to a run (a quarter of an hour)
	@scripts/system.sh faults
	pytest --verbose --durations=12 -m "quick or apart" tests/faults

clean: ## lab-down, then remove .venv and caches; runs/ are results and stay
	python3 lab/down.py
	rm -rf .venv .cache .ansible .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
	@if [ -d runs ]; then echo "runs/ holds your results and stays."; fi

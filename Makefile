# `make help` lists what can be made; it is this file's own comments.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
PYTEST_ARGS ?=
BENCH_RESULTS ?= .bench/results.jsonl
BENCH_PAGE ?= $(dir $(BENCH_RESULTS))benchmarks.md
# Most of these tests wait for something.
PARALLEL ?= --numprocesses 3
# What a file sets up is set up once, and the long ones come first.
BY_FILE := --dist loadfile --no-loadscope-reorder
VENV := .venv
TOOLS := .tools
PY := $(VENV)/bin/python
UV := $(TOOLS)/bin/uv
CHART_CRDS := charts/modelwright/templates/crds
STAGES := lint types together
COMPILE = $(UV) pip compile --universal --generate-hashes --python-version 3.11 --no-header --quiet pyproject.toml

##@ Development

.PHONY: help
help: ## Show this
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(VENV)/.installed ## Make .venv as tests/requirements.txt has it

$(UV): images/tools.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed: make PYTHON=python3.12'; exit 1; }
	@$(PYTHON) -m pip --version > /dev/null || { echo 'pip is needed: apt-get install python3-pip'; exit 1; }
	$(PYTHON) -m pip install --quiet --upgrade --require-hashes --target $(TOOLS) --requirement images/tools.txt
	@touch $@

$(VENV)/.installed: $(UV) tests/requirements.txt pyproject.toml
	test -x $(PY) || $(UV) venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV)
	@# What comes as source is built by the setuptools that is locked there, too.
	$(UV) pip sync --quiet --python $(PY) --require-hashes --build-constraints tests/requirements.txt tests/requirements.txt
	@# Built by the pinned hatchling of $(TOOLS), not by whatever is newest today.
	PYTHONPATH=$(CURDIR)/$(TOOLS) $(UV) pip install --quiet --python $(PY) --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: format
format: venv ## Format and sort what can be
	$(VENV)/bin/ruff check --fix --quiet .
	$(VENV)/bin/ruff format --quiet .

.PHONY: crds
crds: venv ## Make crds/ and the chart's definitions from the models
	$(PY) -m modelwright.api.crd crds --chart $(CHART_CRDS)

.PHONY: lock
lock: $(UV) ## Resolve every lock file again
	$(COMPILE) --extra operator --output-file images/operator/requirements.txt
	$(COMPILE) --extra server --output-file images/server/requirements.txt
	$(COMPILE) --extra runtime --output-file images/runtime/requirements.txt
	@# Beside those, and in none of them another version.
	$(COMPILE) --extra kuberay --constraint images/runtime/requirements.txt \
	  $$(sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' images/runtime/requirements.txt | sort -u) \
	  --output-file images/runtime/ray-dashboard.txt
	$(COMPILE) --extra operator --extra server --extra runtime --extra cli --group dev --output-file tests/requirements.txt

##@ Tests

.PHONY: lint
lint: venv ## Style, formatting, and who may import whom
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(PY) -m modelwright.api.crd --check crds --chart $(CHART_CRDS)

.PHONY: types
types: venv ## mypy, strict
	$(VENV)/bin/mypy

.PHONY: programs
programs: venv ## Build, or find, the programs that tests run: etcd, kube-apiserver, kubectl, helm
	$(PY) -c 'from e2e.cluster.standalone import find; [find(name) for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl", "helm", "versitygw")]'
	@# The kinds of KubeRay come with its module.
	$(PY) -c 'from e2e.cluster.kuberay import KubeRay; KubeRay().source()'

.PHONY: unit
unit: venv programs ## Fast tests of one part each
	$(VENV)/bin/pytest tests/unit $(PARALLEL) $(BY_FILE) $(PYTEST_ARGS)

.PHONY: simulation
simulation: venv ## The plans and the reconciler against an in-memory cluster in which everything goes wrong
	$(VENV)/bin/pytest tests/simulation $(PARALLEL) --dist worksteal $(PYTEST_ARGS)

.PHONY: integration
integration: venv programs ## Against a real API server and a real S3 server, without a node
	$(VENV)/bin/pytest tests/integration $(PARALLEL) $(BY_FILE) $(PYTEST_ARGS)

# While one part waits another computes, and torch is imported once in each process.
.PHONY: together
together: venv programs ## These three at once
	$(VENV)/bin/pytest tests/integration tests/simulation tests/unit $(PARALLEL) $(BY_FILE) $(PYTEST_ARGS)

.PHONY: test
test: venv programs ## All of these, with their times
	@times=; \
	for stage in $(STAGES); do \
	  echo "== $$stage"; start=$$SECONDS; \
	  $(MAKE) --no-print-directory $$stage; \
	  times+=$$(printf '%6d s  %s' $$((SECONDS - start)) $$stage)$$'\n'; \
	done; \
	printf '== times\n%s' "$$times"

##@ A cluster of its own

.PHONY: cluster-up
cluster-up: venv ## A real one-node Kubernetes and an S3 server on this machine (Debian, root)
	$(PY) -m e2e.cluster up

.PHONY: cluster-down
cluster-down: venv ## Stop it and clean up
	$(PY) -m e2e.cluster down

.PHONY: images
images: venv ## Build, push and pull the three images
	$(PY) -m e2e.cluster images

.PHONY: e2e
e2e: venv ## The scenarios: real pods, real faults
	@# Before the tests: the first time it takes longer than any of them may. A cluster that is named is not ours.
	@if [ -z "$${MODELWRIGHT_KUBE_CONTEXT:-}" ]; then $(MAKE) --no-print-directory cluster-up images && $(PY) -m e2e.cluster binaries; fi
	$(VENV)/bin/pytest e2e/scenarios --numprocesses 4 $(BY_FILE) $(PYTEST_ARGS)

.PHONY: demo
demo: venv ## The whole loop on real data, from a bare machine to a model that retrained itself
	$(PY) -m e2e.demo

.PHONY: bench
bench: venv programs ## What failures, starts, workers and checkpoints cost, in short; and how fast the operator is
	@if [ -z "$${MODELWRIGHT_KUBE_CONTEXT:-}" ]; then $(MAKE) --no-print-directory cluster-up images; fi
	@mkdir -p $(dir $(BENCH_RESULTS))
	$(PY) -m e2e.bench.startup --rounds 1 | tee -a $(BENCH_RESULTS)
	$(PY) -m e2e.bench.scaling --seconds 15 | tee -a $(BENCH_RESULTS)
	$(PY) -m e2e.bench.recovery_node --rounds 1 --contenders recipe plain | tee -a $(BENCH_RESULTS)
	$(PY) -m e2e.bench.goodput --minutes 4 --calm 30 --contenders recipe plain | tee -a $(BENCH_RESULTS)
	$(PY) -m e2e.bench.recovery --rounds 1 | tee -a $(BENCH_RESULTS)
	$(PY) -m e2e.bench.checkpoint_stall | tee -a $(BENCH_RESULTS)
	$(PY) -m e2e.bench.throughput | tee -a $(BENCH_RESULTS)
	$(PY) -m e2e.bench.page $(BENCH_RESULTS) --page $(BENCH_PAGE)

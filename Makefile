# Rowlock's own commands. `make` alone lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Built Kubernetes binaries and the like; outside the checkout, keyed by version.
export ROWLOCK_CACHE ?= $(HOME)/.cache/rowlock
# One thread a process: ranks share the cores, and more threads than cores only wait for each other.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup ## Train on 4 workers, kill one, go on, compare with an undisturbed run (main job)
	$(BIN)/python examples/demo.py

.PHONY: test
test: setup ## Run every test: unit, trainer, and against a real API server
	$(BIN)/python -m tests.support.control_plane build
	$(BIN)/python -m pytest

.PHONY: check
check: setup ## Lint, format, types, import contracts, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m rowlock.api.crd --check crds/rowlock.dev_distributedtrainingjobs.yaml
	$(BIN)/python -m rowlock.api.crd --check charts/rowlock/files/rowlock.dev_distributedtrainingjobs.yaml

.PHONY: bench
bench: setup ## Run every benchmark; prints tables, writes JSON to .rowlock/bench
	$(BIN)/python -m benchmarks

# More trials, fewer sides: make bench-cluster BENCH='--trials 40 --sides rowlock_script jobset'
BENCH ?=
.PHONY: bench-cluster
bench-cluster: setup ## On the cluster that runs (make cluster): what a lost pod costs, beside torchrun in a JobSet (needs Go; BENCH)
	$(cluster) kubeconfig
	$(BIN)/python -m benchmarks.cluster --json .rowlock/bench/cluster.json $(BENCH)

# Images: a prefix and a tag of your own, another base, another build of torch, fewer targets.
IMAGE_PREFIX ?= ghcr.io/rowlock
TAG ?=
export BASE_IMAGE ?=
TORCH_INDEX_URL ?=
TARGETS ?= operator trainer

.PHONY: image
image: ## Build the container images with docker or podman (IMAGE_PREFIX, TAG, BASE_IMAGE, TORCH_INDEX_URL, TARGETS)
	$(PYTHON) -m images.build --prefix '$(IMAGE_PREFIX)' --tag '$(TAG)' --base-image '$(BASE_IMAGE)' \
		--torch-index-url '$(TORCH_INDEX_URL)' $(TARGETS)

.PHONY: base-image
base-image: ## Make localhost/rowlock-base:bookworm of Debian packages, for BASE_IMAGE where no registry is reachable
	$(PYTHON) -m images.base

# A cluster of several nodes on this machine: kind where a Docker daemon answers, else native, or as CLUSTER says.
NODES ?= 3
CLUSTER ?=
CLUSTER_IMAGES := operator trainer torch
export ROWLOCK_CLUSTER := $(CLUSTER)
# A native cluster is fed from podman's store, also where a Docker daemon answers.
export IMAGE_TOOL ?= $(if $(filter native,$(CLUSTER)),podman)
cluster = $(BIN)/python -m tests.support.cluster
# Without Docker there is most likely no registry to pull a base from either.
with_base = base='$(BASE_IMAGE)'; sort=$$($(cluster) prepare); \
	if [ -z "$$base" ] && [ "$$sort" = native ]; then base=$$($(PYTHON) -m images.base); fi;

.PHONY: cluster
cluster: cluster-images ## Start a cluster on this machine, with Rowlock's images on it (NODES, CLUSTER=kind|native)
	$(cluster) up --nodes $(NODES)

.PHONY: cluster-images
cluster-images: setup
	@$(with_base) $(MAKE) image TARGETS="$(CLUSTER_IMAGES)" BASE_IMAGE="$$base"

.PHONY: cluster-load
cluster-load: cluster-images ## Build the images and bring what changed to the cluster that runs, its operator too
	$(cluster) load

.PHONY: cluster-down
cluster-down: setup ## Remove the cluster and all it left (CLUSTER)
	$(cluster) down

.PHONY: cluster-demo
cluster-demo: setup ## On a cluster, which is started if none runs: install, train, lose two workers, finish
	@$(cluster) kubeconfig >/dev/null 2>&1 || $(MAKE) cluster
	$(BIN)/python -m examples.cluster_demo

.PHONY: kind-demo
kind-demo: ## The same, on kind (needs Docker)
	@$(MAKE) cluster-demo CLUSTER=kind

.PHONY: e2e
e2e: setup ## Test the images, and Rowlock on the cluster that runs (make cluster); takes about half an hour
	$(cluster) kubeconfig
	@$(with_base) BASE_IMAGE="$$base" $(BIN)/python -m pytest tests/image tests/e2e

.PHONY: cluster-test
cluster-test: setup ## Test that the native cluster leaves nothing, wherever it is killed (none may run)
	$(cluster) prepare --native
	$(BIN)/python -m pytest tests/cluster

.PHONY: setup
setup: $(VENV)/.installed ## Make the virtual environment (done by the others as needed)

$(VENV)/.installed: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Rowlock needs Python 3.11 or newer; $(PYTHON) is older. Name another: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "installing the locked packages; torch alone is several gigabytes, so the first time takes minutes"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: crd
crd: setup ## Generate the CustomResourceDefinition from the models, and the chart's copy
	$(BIN)/python -m rowlock.api.crd > crds/rowlock.dev_distributedtrainingjobs.yaml
	cp crds/rowlock.dev_distributedtrainingjobs.yaml charts/rowlock/files/

.PHONY: chart
chart: setup ## Write the chart's table of values and its golden files anew, then lint and test it
	$(BIN)/python -m tests.support.chart_readme
	ROWLOCK_UPDATE_GOLDEN=1 $(BIN)/python -m pytest tests/unit/chart

.PHONY: format
format: setup ## Format the code and mend what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Lock files carry versions and hashes for every supported Python, and no index address.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-package rowlock --constraint requirements/constraints.txt \
	--custom-compile-command "make lock"

.PHONY: lock
lock: ## Resolve the dependencies anew (needs uv)
	$(LOCK) pyproject.toml --extra operator --output-file requirements/operator.txt
	$(LOCK) pyproject.toml --extra trainer --output-file requirements/trainer.txt
	$(LOCK) pyproject.toml --extra operator --extra trainer --extra dev --output-file requirements/dev.txt
	@# For single layers of the images: torch, the launcher's payload, and what builds Rowlock's own.
	printf 'numpy\ntorch\n' | $(LOCK) - --constraint requirements/trainer.txt --output-file requirements/torch.txt
	printf 'cattrs\nwebsockets\n' | $(LOCK) - --constraint requirements/trainer.txt --output-file requirements/launcher.txt
	printf 'hatchling\n' | $(LOCK) - --constraint requirements/dev.txt --output-file requirements/build.txt
	printf 'pip\n' | $(LOCK) - --output-file requirements/pip.txt

.PHONY: clean
clean: ## Remove what was built or installed in the checkout
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build

# Everything a developer or CI does; `make` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

export TWINHULL_CACHE ?= $(HOME)/.cache/twinhull
VENV := $(TWINHULL_CACHE)/venv
PYTHON := $(VENV)/bin/python
STAMPS := $(TWINHULL_CACHE)/stamps
EXTENSION := sidecar/twinhull_sidecar/_mirrorfs.abi3.so
MIRRORFS_TARGET := $(TWINHULL_CACHE)/target-mirrorfs
# Apart from the crate's own target directory: cargo run by hand sets other variables, and pyo3 would be built anew each time.
EXTENSION_TARGET := $(TWINHULL_CACHE)/target-extension
GATE_TARGET := $(TWINHULL_CACHE)/target-gate
GATE := $(GATE_TARGET)/x86_64-unknown-linux-gnu/release/gate
# Suites of others, which tests/lab/test_posix_suites.py runs.
SUITES := $(TWINHULL_CACHE)/suites/bin/pjdfstest $(TWINHULL_CACHE)/suites/bin/fsx

TESTS ?=
HISTORIES ?= 2000
MUTANT_HISTORIES ?= 6000
SOAK_HISTORIES ?= 100000
CAMPAIGN_CUTS ?= 500
SEED ?= 1
ARGS ?=

# What the tests, the demo and the test cluster call beside the toolchains (Python 3.11, Rust, Go).
APT_PACKAGES := podman netavark aardvark-dns runc debootstrap nftables iptables conntrack fuse3 iproute2 iputils-ping \
	util-linux e2fsprogs xfsprogs btrfs-progs procps kmod fio stress-ng postgresql python3-venv chromium chromium-driver
APT_BENCH_PACKAGES := glusterfs-server glusterfs-client nginx-light wrk haproxy keepalived libnftables1

# Sources whose change makes a step necessary again.
RUST_SOURCES = $(shell find sidecar/mirrorfs -path '*/target' -prune -o -type f \( -name '*.rs' -o -name 'Cargo.*' \) -print)
GATE_SOURCES = $(shell find sidecar/gate -path '*/target' -prune -o -type f \( -name '*.rs' -o -name '*.toml' -o -name 'Cargo.*' \) -print)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(STAMPS)/apt $(STAMPS)/venv $(EXTENSION) $(GATE) ## Install and build all that the other targets need (idempotent; quick when nothing changed)

.PHONY: demo
demo: setup ## PostgreSQL on a two-node kind cluster, and a power cut of the node with primary and API server
	$(PYTHON) -m tests.demo $(ARGS)

.PHONY: test
test: setup ## Unit, cargo, simulation, lab and end-to-end tests; TESTS=path for a part of them
ifeq ($(strip $(TESTS)),)
	$(PYTHON) -m pytest --durations=5 tests/unit
	$(MAKE) --no-print-directory cargo-test
	$(MAKE) --no-print-directory $(SUITES)
	$(PYTHON) -m tests.cluster prepare
	$(PYTHON) -m pytest --durations=5 tests/simulation tests/lab
	$(MAKE) --no-print-directory e2e
else
	case "$(TESTS)" in *posix*|*lab|*lab/) $(MAKE) --no-print-directory $(SUITES) ;; esac
	case "$(TESTS)" in *e2e*|*cluster*|*operator*|*rules*|*console*) $(PYTHON) -m tests.cluster prepare ;; esac
	$(PYTHON) -m pytest $(TESTS)
endif

.PHONY: suites
suites: setup $(SUITES) ## The long form of the POSIX suites on a mounted pair (pjdfstest, fsx, fio, stress-ng), half an hour
	TWINHULL_LONG=1 $(PYTHON) -m pytest --durations=5 tests/lab/test_posix_suites.py

.PHONY: e2e
e2e: setup ## The end-to-end tests alone, on the two-node kind cluster
	$(PYTHON) -m tests.cluster prepare
	$(PYTHON) -m pytest --durations=5 tests/e2e

.PHONY: pictures
pictures: setup ## The console's states on the kind cluster, as pictures for docs/images
	$(PYTHON) -m tests.cluster prepare
	TWINHULL_PICTURES=docs/images $(PYTHON) -m pytest tests/e2e/test_console.py

.PHONY: cargo-test
cargo-test: ## The Rust crates' own tests
	cd sidecar/mirrorfs && CARGO_TARGET_DIR=$(MIRRORFS_TARGET) cargo test --locked --no-default-features
	cd sidecar/gate && CARGO_TARGET_DIR=$(GATE_TARGET) cargo test --locked

.PHONY: simulate
simulate: setup ## The role decision under random histories; HISTORIES=N SEED=S
	$(PYTHON) -m tests.simulation --histories $(HISTORIES) --seed $(SEED) $(ARGS)

.PHONY: mutants
mutants: setup ## Remove one rule of the role decision at a time; the simulation must catch each; MUTANT_HISTORIES=N
	$(PYTHON) -m tests.simulation --mutants --histories $(MUTANT_HISTORIES) --seed $(SEED) $(ARGS)

.PHONY: soak
soak: setup ## 100,000 simulated histories, 500 power cuts under applications, then cuts of whole nodes until interrupted; ARGS=--help
	$(PYTHON) -m tests.simulation --histories $(SOAK_HISTORIES) --seed $(SEED)
	$(PYTHON) -m tests.lab.campaign --cuts $(CAMPAIGN_CUTS) --seed $(SEED)
	$(PYTHON) -m tests.lab.soak $(ARGS)

.PHONY: bench
bench: setup $(STAMPS)/apt-bench ## mirrorfs beside ext4 and GlusterFS, the farm beside HAProxy and keepalived; writes build/bench.json
	$(PYTHON) -m bench $(ARGS)

.PHONY: bench-operator
bench-operator: setup ## The operator with 200 modules on a real API server: delays, requests, memory; ARGS=--help
	$(PYTHON) -m tests.cluster prepare
	$(PYTHON) -m tests.lab.many_modules $(ARGS)

.PHONY: reference
reference: setup ## Write the pages of docs/reference that are made of the code
	$(PYTHON) -m tests.reference

.PHONY: lint
lint: setup ## ruff, mypy, rustfmt, clippy, and the check that the chart's CRDs are those of crds/
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy operator sidecar tests bench
	diff -r crds charts/twinhull/crds
	cd sidecar/mirrorfs && cargo fmt --check && CARGO_TARGET_DIR=$(MIRRORFS_TARGET) cargo clippy --locked --all-targets --no-default-features -- -D warnings
	cd sidecar/gate && cargo fmt --check && CARGO_TARGET_DIR=$(GATE_TARGET) cargo clippy --locked --all-targets -- -D warnings

.PHONY: image
image: setup ## Build the container image
	$(PYTHON) -m tests.cluster image

.PHONY: cluster
cluster: setup ## Bring up the two-node kind cluster with both images loaded
	$(PYTHON) -m tests.cluster up
	$(PYTHON) -m tests.cluster images

.PHONY: clean
clean: ## Remove the demo, its cluster and what was built in the checkout (the cache in TWINHULL_CACHE stays)
	if [ -x $(PYTHON) ]; then $(PYTHON) -m tests.cluster down; fi
	rm -rf build dist *.egg-info operator/*.egg-info sidecar/*.egg-info $(EXTENSION)
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis

# --- what setup is made of -------------------------------------------------------------------------------------------

define apt_install
	missing=; for package in $(1); do \
		dpkg-query --show --showformat='$${db:Status-Status}\n' $$package 2>/dev/null | grep -qx installed || missing+=" $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
		echo "==> install Debian packages:$$missing"; \
		apt-get update -q >/dev/null || true; \
		DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing >/dev/null; \
	fi
endef

$(TWINHULL_CACHE)/suites/bin/%:
	@echo "==> $*, a test suite"
	cargo install --quiet --locked --root $(TWINHULL_CACHE)/suites $*@$(if $(filter fsx,$*),0.3.2,0.2.2)

# Checked at every run: a stamp in a cache that outlived the machine would hide a missing package.
.PHONY: $(STAMPS)/apt $(STAMPS)/apt-bench
$(STAMPS)/apt:
	@$(call apt_install,$(APT_PACKAGES))

$(STAMPS)/apt-bench:
	@$(call apt_install,$(APT_BENCH_PACKAGES))

# Only the dependencies: the project itself is installed with its extension, by the next rule.
$(STAMPS)/venv: pyproject.toml | $(STAMPS)/apt
	@echo "==> Python environment in $(VENV)"
	@mkdir -p $(STAMPS)
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --upgrade pip "setuptools>=77" "setuptools-rust>=1.10" wheel
	$(PYTHON) -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print("\n".join(p["dependencies"] + p["optional-dependencies"]["dev"]))' \
		| $(PYTHON) -m pip install --quiet --requirement /dev/stdin
	rm -f $(EXTENSION)
	touch $@

# The environment may have been installed from another checkout.
ifneq ($(shell cat $(VENV)/checkout 2>/dev/null),$(CURDIR))
.PHONY: $(EXTENSION)
endif

$(EXTENSION): $(RUST_SOURCES) $(STAMPS)/venv
	@echo "==> mirrorfs (Rust), release build"
	PYTHONWARNINGS=ignore CARGO_TARGET_DIR=$(EXTENSION_TARGET) $(PYTHON) -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch --no-create $@ && test -f $@
	echo $(CURDIR) >$(VENV)/checkout

$(GATE): $(GATE_SOURCES)
	@echo "==> gate (Rust), release build"
	cd sidecar/gate && CARGO_TARGET_DIR=$(GATE_TARGET) cargo build --quiet --release --locked
	touch $@

# Each target installs what it needs, so that a fresh clone needs no other command first.
SHELL := /bin/sh
VENV := .venv
PYTHON := $(VENV)/bin/python
BUILT := $(VENV)/.built
# What the extension is made of. The package is installed in place: a change in Python needs no build.
SOURCES := Cargo.toml Cargo.lock pyproject.toml ci/constraints.txt ci/requirements.txt $(shell find native -name '*.rs' -o -name 'Cargo.toml' -o -name 'build.rs')
export PIP_CONSTRAINT := $(CURDIR)/ci/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_QUIET := 1
# maturin installs into the environment that this names, whatever environment the caller has activated.
export VIRTUAL_ENV := $(CURDIR)/$(VENV)

.DEFAULT_GOAL := help
.PHONY: help setup build test lint demo bench bench-cold bench-full bench-micro wheel clean

help: ## Show these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install tools: Debian packages where missing (as root), and .venv
	@ci/setup

build: $(BUILT) ## Build the engine (release) and install the commands into .venv

# The setup step stands in the recipe: it must not make a finished build look old.
$(BUILT): $(SOURCES)
	@ci/setup
	$(VENV)/bin/maturin develop --release
	@touch $@

demo: build ## Publish, serve, mount and use a repository, and print what it took
	@ci/setup
	@$(PYTHON) -m bench.demo

# Tests wait more than they compute, so that more of them than there are cores run at a time; one file is one worker's.
test: build ## Run all Python tests, real mounts included (ARGS="-k name" for some)
	@ci/setup test
	@$(PYTHON) -m pytest -n 3 --dist loadfile $(ARGS)

lint: ## Run formatters, linters, type and layer checks
	@ci/run lint

bench: build ## Measure against NFS and others over an emulated line: a quarter of an hour, as root
	@ci/setup
	@$(PYTHON) -m bench.run $(ARGS)

bench-cold: build ## Measure cold starts: programs, proxies, what is fetched in vain; over half an hour, as root
	@ci/setup
	@$(PYTHON) -m bench.run --profile cold $(ARGS)

bench-full: build ## Measure everything: more lines, contenders and scenarios; over an hour
	@ci/setup
	@$(PYTHON) -m bench.run --profile full $(ARGS)

bench-micro: build ## Time hot functions against the standard library and sqlite3
	@ci/setup
	@mkdir -p target/bench
	@$(PYTHON) -m pytest bench/micro --benchmark-json target/bench/micro.json $(ARGS)
	@$(PYTHON) -m bench.micro_report target/bench/micro.json

wheel: setup ## Build a release wheel into dist/
	$(VENV)/bin/maturin build --release --out dist
	@ls dist/*.whl

clean: ## Remove what was built; downloads and bench results stay
	rm -rf target dist $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -f python/nearfs/_native*.so bench/probe*.so

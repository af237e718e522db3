# `make demo` and `make test` need Python 3.11 or newer and make, nothing else. Environment: .venv in this folder.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
export PYTHON VENV
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH
BIN := $(VENV)/bin

# Stamps are named after the contents of what they stand for, so that nothing is installed twice.
fingerprint = $(shell cat $(1) pyproject.toml tools/set-up.sh | cksum | cut -d ' ' -f 1)
DEMO_STAMP := $(VENV)/.stamps/demo-$(call fingerprint,requirements/demo.txt)
TEST_STAMP := $(VENV)/.stamps/test-$(call fingerprint,requirements/test.txt)

.PHONY: help
help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-15s %s\n", $$1, $$2}' Makefile

.PHONY: demo
demo: $(DEMO_STAMP)  ## Segment sample images, answer prompts, leave pictures and tables in demo/
	$(BIN)/fastsam demo --out demo

.PHONY: test
test: $(TEST_STAMP) services  ## Set up and run everything: linters, types, all tests
	$(BIN)/python tools/run_checks.py lint core napari fiftyone

.PHONY: lint
lint: $(TEST_STAMP)  ## Ruff, mypy --strict, import directions
	$(BIN)/python tools/run_checks.py lint

.PHONY: test-core
test-core: $(TEST_STAMP)  ## Tests of the core and the packaging
	$(BIN)/python tools/run_checks.py core

.PHONY: test-napari
test-napari: $(TEST_STAMP) services  ## Tests of the napari plugin
	$(BIN)/python tools/run_checks.py napari

.PHONY: test-fiftyone
test-fiftyone: $(TEST_STAMP) services  ## Tests of the FiftyOne plugin
	$(BIN)/python tools/run_checks.py fiftyone

.PHONY: bench
bench: $(TEST_STAMP)  ## Measure speed against ultralytics; writes benchmarks/results.json
	$(BIN)/python -m benchmarks

.PHONY: docs
docs: $(TEST_STAMP)  ## Build the documentation in site/
	$(BIN)/mkdocs build --strict

.PHONY: train-smoke
train-smoke: $(TEST_STAMP)  ## Train on 96 generated scenes, in two parts; test that the loss falls and resuming is exact
	rm -rf runs/smoke
	$(BIN)/python -m fastsam_core.training --run runs/smoke --scene-count 96 --size 256 --steps 6
	$(BIN)/python -m fastsam_core.training --run runs/smoke --scene-count 96 --size 256 --steps 36
	$(BIN)/python -m fastsam_core.training.export runs/smoke/last.pt runs/smoke/smoke.safetensors --imgsz 256
	$(BIN)/python -m pytest tests/core/training/test_smoke.py -q

.PHONY: pins
pins: $(DEMO_STAMP)  ## Resolve newer versions into requirements/*.txt
	tools/compile-pins.sh

.PHONY: check-wheel
check-wheel: $(TEST_STAMP) services  ## Use the napari plugin from its wheel in empty environments, PyQt6 and PySide6
	$(BIN)/python tools/check_wheel.py
	$(BIN)/python tools/check_wheel.py --qt PySide6 --tests tests/napari

.PHONY: check-lowest
check-lowest: $(TEST_STAMP) services  ## Run the tests of core and napari with the lowest versions that pyproject.toml allows
	$(BIN)/python tools/check_lowest.py

.PHONY: services
services: $(TEST_STAMP)  ## What the tests need beside Python: a display, a browser, a database
	tools/system-packages.sh
	tools/libssl1.1.sh

.PHONY: clean
clean:  ## Remove what was made here, the environment included; training runs stay
	rm -rf $(VENV) .tools build dist demo site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(DEMO_STAMP):
	tools/set-up.sh demo
	@mkdir -p $(@D) && rm -f $(@D)/demo-* && touch $@

$(TEST_STAMP):
	tools/set-up.sh test
	@mkdir -p $(@D) && rm -f $(@D)/* && touch $@ $(DEMO_STAMP)

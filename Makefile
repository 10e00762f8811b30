# `make run` and `make test` do everything, from a bare clone and again afterwards.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

install: $(STAMP) ## create .venv and install vlmprune with the pinned versions

# torch goes first and alone: with it in place nothing else asks for another build of it.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

run: $(STAMP) ## the first run: cls at 95 % on the embedded model and benchmark
	$(BIN)/vlmprune run method=cls ratio=0.95

test: $(STAMP) ## the tests (under 6 minutes on 2 cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow and not gpu'

coverage: $(STAMP) ## branch coverage of make test's selection
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow and not gpu' --cov=vlmprune --cov-branch --cov-report=term:skip-covered

slow: $(STAMP) ## the longer checks: robustness, launchers, the wheel on its own, the examples of README and docs, 5,000 random programs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m 'slow and not gpu' tests/robustness/hostile
	$(BIN)/python -m pytest -m 'slow and not gpu' --ignore tests/robustness/hostile

oldest: $(STAMP) ## the engine's and the loader's tests on the oldest transformers that is supported
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --no-deps --target .oldest 'transformers==5.17.0' 'huggingface_hub<2'
	PYTHONPATH=.oldest OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m 'not slow and not gpu' tests/engine tests/families tests/models tests/measure

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

chart: $(STAMP) ## README's picture and the table of docs/results.md: five methods at five ratios
	$(BIN)/vlmprune sweep method=cls,divprune,fastv,uniform,random ratio=0.25,0.5,0.75,0.9,0.95 outputs=outputs/chart
	$(BIN)/vlmprune compare outputs=outputs/chart format=markdown columns=front,method,ratio,kept,layer_avg,score,relative,vs_random,flops,prefill chart=docs/accuracy.png

clean: ## remove .venv and caches; run directories stay
	rm -rf $(VENV) .oldest build *.egg-info .coverage .pytest_cache .ruff_cache .mypy_cache

.PHONY: help install run test coverage slow oldest lint chart clean

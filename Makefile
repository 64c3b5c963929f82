# The two commands of the README are `make quickstart` and `make test`; both need only Python 3.11+, git and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
WORKERS ?= 2
NEWEST ?= 3.13 3.14

.PHONY: quickstart install test lint types layers unit coverage speed kill kill-run extraction attacks training planted fuzz lowest newest docs clean

quickstart: $(VENV)/.installed
	$(BIN)/surgery run recipes/quickstart.toml

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test]"
	touch $@

test: lint types layers unit

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.tested
	mkdir -p build/typing && ln -sfn ../../cli build/typing/surgery_cli
	$(BIN)/pyright --project pyproject.toml --pythonpath $(BIN)/python

layers: $(VENV)/.tested
	$(BIN)/lint-imports

unit: $(VENV)/.tested
	$(BIN)/python -m pytest -n $(WORKERS)

# Longer runs, each with its own target.

coverage: $(VENV)/.tested  ## all 80 classification models of torchvision; about fifteen minutes
	$(BIN)/python benchmarks/coverage.py -o docs/coverage.md

speed: $(VENV)/.tested  ## time to trace, rewrite and certify
	$(BIN)/python benchmarks/speed.py

kill: $(VENV)/.tested  ## kill writers of a store at 200 random moments; no group that was reported as written may be lost
	$(BIN)/python benchmarks/kill_store.py --times 200

kill-run: $(VENV)/.tested  ## kill a small quickstart at 50 random moments; every store has to be the same
	$(BIN)/python benchmarks/kill_run.py --times 50

extraction: $(VENV)/.tested  ## time to compute W, compared with the alternatives; add LARGE=--large for the large networks
	$(BIN)/python benchmarks/extract.py $(LARGE)

attacks: $(VENV)/.tested  ## PGD compared with torchattacks and foolbox, if they are installed; MODEL=checkpoint DATA=folder
	$(BIN)/python benchmarks/attack.py --model $(MODEL) --data $(DATA)

training: $(VENV)/.tested  ## time of a step of adversarial training, compared with a plain loop, and cost of the penalty
	$(BIN)/python benchmarks/train.py

planted: $(VENV)/.tested  ## superclasses in C on data with a known hierarchy, five seeds; some minutes
	$(BIN)/python benchmarks/planted.py

fuzz: $(VENV)/.tested  ## read damaged files of every kind for ten minutes; nothing but clear errors may come back
	$(BIN)/python benchmarks/fuzz.py --minutes 10

# Old versions warn of the newer ones that they are combined with, so warnings are errors only with the newest.
lowest: $(VENV)/.tested  ## the tests with the lowest versions that pyproject.toml declares; downloads them
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/lowest
	$(BIN)/uv pip install --quiet --python build/lowest/bin/python --resolution lowest-direct -e ".[test]"
	build/lowest/bin/python -m pytest -n $(WORKERS) -W default

newest: $(VENV)/.tested  ## the tests with the newest versions, on Python 3.13 and 3.14; downloads them
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	set -e; for version in $(NEWEST); do \
		$(BIN)/uv venv --quiet --clear --python $$version build/newest-$$(basename $$version); \
		$(BIN)/uv pip install --quiet --python build/newest-$$(basename $$version)/bin/python -e ".[test]"; \
		build/newest-$$(basename $$version)/bin/python -m pytest -n $(WORKERS); \
	done

docs: $(VENV)/.tested
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[docs]"
	$(BIN)/mkdocs build --strict

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis

# make help lists the targets. Everything runs inside .venv, which `make env` builds from requirements.lock.

PYTHON ?= python3
J ?= 2
MINUTES ?= 10
SEED ?= 0
FOLDER ?= data/raw
PORT ?= 8420
REVIEWED := .work/review
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
# DVC starts stages as `python`: it has to be this environment's.
export PATH := $(BIN):$(PATH)
unexport PYTHONDONTWRITEBYTECODE
# Read by the shell: the folder's name may hold blanks and quotes.
export FOLDER

.DEFAULT_GOAL := help
.PHONY: help env run review test test-slow fuzz lint members quality lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

env: $(VENV)/.ready ## build the environment

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "flukeprint needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12 ...")'
	@echo "Installing into $(VENV) (once; about 6 GB, most of it torch) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	@UV_COMPILE_BYTECODE=1 $(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python -r requirements.lock
	@$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --no-deps --editable .
	@touch $@

# --all-pipelines: there is one; without it DVC reads dvc.yaml and dvc.lock twice.
run: env ## the whole pipeline on the current profile, where its results are, and a bundle of it
	@python -m flukeprint.core.dvc_lock
	@dvc repro --all-pipelines
	@python -m flukeprint.cli results
	@test models/bundle/manifest.json -nt dvc.lock || python -m flukeprint.cli export models/bundle
	@echo "A catalogue of your own photos (a folder per whale), answered by this model:"
	@echo "  $(VENV)/bin/flukeprint catalogue create --bundle models/bundle --from FOLDER"
	@echo "Decide the first whale of this run's photos in your browser (half a minute):"
	@echo "  make review"

review: env ## decide this run's test photos in the browser, in the catalogue .work/review (port: PORT=8420)
	@test -d models/bundle || { echo "There is no model yet: make run"; exit 1; }
	@test -f $(REVIEWED)/.ready || { rm -rf $(REVIEWED) && mkdir -p $(REVIEWED) && \
	  python -m flukeprint.cli catalogue create $(REVIEWED)/catalogue --bundle models/bundle --from data/raw/train.csv \
	    --photos data/raw/train --in-place --who import && \
	  python -m flukeprint.cli catalogue identify data/raw/test --catalogue $(REVIEWED)/catalogue --who import \
	    --json > $(REVIEWED)/answers.json && touch $(REVIEWED)/.ready; }
	@python -m flukeprint.cli review $(REVIEWED)/catalogue --port $(PORT) --open

test: env ## the test suite
	@python -m pytest

test-slow: env ## what runs pipelines several times over, which the suite leaves out
	@python -m pytest -m slow

fuzz: env ## read spoiled files of every kind for so long (make fuzz MINUTES=60 SEED=1)
	@PYTHONPATH=. python tests/fuzz.py --minutes $(MINUTES) --seed $(SEED)

lint: env ## ruff and mypy
	@ruff check .
	@ruff format --check .
	@mypy

members: env ## fine-tune and embed J members at a time, or on a cluster (make members J=2; docs/cluster.md)
	@python -m flukeprint.cli members --most $(J)

quality: env ## check a folder in Kaggle's layout (make quality FOLDER=...)
	@python -m flukeprint.cli quality "$$FOLDER"

lock: ## pin the newest versions that pyproject.toml allows
	@$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-annotate --no-header \
	  pyproject.toml --output-file requirements.lock

clean: ## remove unfinished trainings; DVC's cache and outputs stay
	@rm -rf .work

# For people with nothing installed: each target sets up what it needs in .venv.
PYTHON ?= python3
# For pip, say where it finds PyTorch's CPU build: docs/running.md, "Installing".
PIP_ARGS ?=
BIN := .venv/bin

# Snakemake and others keep files in the home directory. Some users of containers have none, or may not write there.
ifneq ($(shell test -n "$$HOME" && test -w "$$HOME" && echo yes),yes)
export HOME := $(CURDIR)/.venv/home
endif

.PHONY: reproduce test test-all bench bench-drop report docs

SEEDS ?= 0 1 2
PRECISIONS ?= float32
STEPS ?=

reproduce: .venv/workflow  ## everything: train, analyse, draw, judge (about an hour on 2 cores)
	$(BIN)/snakemake --cores all

test: .venv/test  ## linters, unit tests, and the whole workflow at smoke scale
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n 2 --dist loadgroup -m "not extended"

test-all: .venv/test  ## after `make test`: the slower tests, on a SLURM cluster and in conda environments of their own
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m extended

bench: .venv/test  ## how fast training is, on an idle machine: results/benchmarks/bench.md (about 15 minutes on 2 cores)
	PYTHONPATH=workflow $(BIN)/python tests/benchmarks/bench.py

bench-drop: .venv/test  ## wall time to the drop at the cpu scale: results/benchmarks/drop.csv (minutes for each of SEEDS)
	PYTHONPATH=workflow $(BIN)/python tests/benchmarks/drop_time.py \
		--seeds $(SEEDS) --precisions $(PRECISIONS) $(addprefix --steps ,$(STEPS))

report: .venv/workflow  ## report.zip, after `make reproduce`
	$(BIN)/snakemake --report report.zip

docs: .venv/workflow  ## docs/figures.md, after a change of workflow/figures.yaml or of a claim
	PYTHONPATH=workflow $(BIN)/python -m abrupt.docs

.venv/workflow: envs/requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -r $<
	touch $@

.venv/test: envs/requirements-test.txt envs/requirements.txt envs/requirements-slurm.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -r $<
	touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

# For people with nothing installed: each target sets up what it needs in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: reproduce test test-all bench bench-drop report readme

SEEDS ?= 0 1 2
PRECISIONS ?= float32
STEPS ?=

reproduce: .venv/workflow  ## everything: train, analyse, draw, judge (about an hour on 2 cores)
	$(BIN)/snakemake --cores all

test: .venv/test  ## linters, unit tests, and the whole workflow at smoke scale
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m "not extended"

test-all: .venv/test  ## after `make test`: the slower tests, on a SLURM cluster and in conda environments of their own
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m extended

bench: .venv/test  ## how fast training is, on an idle machine: results/benchmarks/bench.md (about 15 minutes on 2 cores)
	PYTHONPATH=workflow $(BIN)/python tests/benchmarks/bench.py

bench-drop: .venv/test  ## wall time to the drop at the cpu scale: results/benchmarks/drop.csv (minutes for each of SEEDS)
	PYTHONPATH=workflow $(BIN)/python tests/benchmarks/drop_time.py \
		--seeds $(SEEDS) --precisions $(PRECISIONS) $(addprefix --steps ,$(STEPS))

report: .venv/workflow  ## report.zip, after `make reproduce`
	$(BIN)/snakemake --report report.zip

readme: .venv/workflow  ## the README's table of figures; COSTS=results/cpu/benchmarks/figure_costs.tsv puts new costs into it
	PYTHONPATH=workflow $(BIN)/python -m abrupt.readme $(COSTS)

.venv/workflow: envs/requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet -r $<
	touch $@

.venv/test: envs/requirements-test.txt envs/requirements.txt envs/requirements-slurm.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet -r $<
	touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

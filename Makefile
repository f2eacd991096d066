# For people with nothing installed: each target sets up what it needs in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: reproduce test report

reproduce: .venv/workflow  ## everything: train, analyse, draw, judge (about an hour on 2 cores)
	$(BIN)/snakemake --cores all

test: .venv/test  ## linters, unit tests, and the whole workflow at smoke scale
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest

report: .venv/workflow  ## report.zip, after `make reproduce`
	$(BIN)/snakemake --report report.zip

.venv/workflow: envs/requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet -r $<
	touch $@

.venv/test: envs/requirements-test.txt envs/requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet -r $<
	touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

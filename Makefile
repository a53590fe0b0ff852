# Every target sets up what it needs: a virtual environment with the locked packages.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
DATA ?= ../shared/data
TRAINING ?= build/training
# of the maps that networks are tested with: their relatives are not trained on
TEST_MODELS := EMD-20026_apoferritin_1.75A/3ajo_fitted_refined.pdb EMD-6272_VP6_2.6A/6272.pdb \
  EMD-30342_integrin_3.9A/390_7cec.cif EMD-5168_actin_6.6A/1J6Z.pdb VP6_3.8A_docking/vp6.pdb

export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1

.PHONY: demo test test-sites torture bench train train-side-chains lint types format setup clean lock viewer

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is `$(PYTHON) -V`, expected Python 3.11 or newer; run make with PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

demo: setup  ## movies of a simulated session -> refined map and report, through Prefect flows
	$(BIN)/vitriflow demo --folder $(DEMO)

test: setup  ## all tests that need nothing but the virtual environment
	$(BIN)/python -m pytest -m "not site"

test-sites: setup  ## PostgreSQL, Slurm, a real S3 server, the Prefect UI in a browser; installs them where it can
	bash infra/test-servers.sh
	$(BIN)/python -m pytest -m site -rs

torture: setup  ## files written badly, services that die: what was lost, what done twice; SHORT=1 for a few minutes
	$(BIN)/python -m tests.torture $(if $(SHORT),--short)

bench: setup  ## accuracy and cost of every stage, and how the machinery keeps up; printed and written to bench/
	$(BIN)/python -m tests.benchmarks.session

TRAINED_ON := $(foreach set,structures_bm5 complexes_posebusters structures_rna,--structures $(DATA)/$(set)) \
  $(foreach model,$(TEST_MODELS),--exclude $(DATA)/maps/$(model))

train: setup  ## train the network that finds residues in maps; goes on where it stopped; DATA holds the structures
	$(BIN)/vitriflow train $(TRAINING) $(if $(SECONDS),--seconds $(SECONDS)) $(TRAINED_ON)

train-side-chains: setup  ## train the network that reads side chains where the other one finds residues
	$(BIN)/vitriflow train $(TRAINING) --network side-chains $(if $(SECONDS),--seconds $(SECONDS)) $(TRAINED_ON)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:  ## resolve the newest versions that the bounds allow into requirements.lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet 'torch==2.13.0' -e '.[dev]'
	build/lock/bin/python -m pip freeze --exclude vitriflow --exclude-editable | sed 's/+cpu$$//' > requirements.lock

viewer:  ## fetch the report's 3D viewer anew from the npm registry and compare it with what is here
	bash infra/fetch-viewer.sh

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# make run: the default study. make study DATA=… NAME=…: a starter study for a folder or table of yours. make test: all tests but those on a cluster. make test-fast: those of a few minutes, before
# each commit. make test-slurm: those on a Slurm that they install and start (as root, on Debian). make env: the
# environment alone. How long each takes: CONTRIBUTING.md.
PYTHON ?= python3
BIN := .venv/bin
DONE := .venv/.complete
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

# Small copies of published sets, with phantom films: make miniatures DIR=data SETS="chexpert nih_cxr14" (docs/published.md).
miniatures: env
	PYTHONPATH=workflow_scripts $(BIN)/python workflow_scripts/make_miniatures.py $(DIR) $(SETS)

.PHONY: miniatures run study test test-fast test-slurm bench env lint docs lock

run: env
	$(BIN)/snakemake --cores all

# Whatever stands in a path reaches the script as it is.
study: env
	@test -n "$$DATA" || { echo "say which: make study DATA=folder-or-table (and NAME=name, if you like)" >&2; exit 2; }
	@$(BIN)/python workflow_scripts/start_study.py --name "$$NAME" -- "$$DATA"

test: env lint
	$(PYTEST) -n 2 -m "not workflow and not slurm"
	$(PYTEST) -m workflow

test-fast: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST) -n 2 -m "not slow and not workflow and not slurm"

test-slurm: env
	$(PYTEST) -s -m slurm

# Speed against stock parts, as ratios (docs/performance.md); `make bench SMALL=--small`: under a minute each.
bench: env
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/run.py $(SMALL) --json results/benchmarks$(SMALL).json

env: $(DONE)

$(DONE): envs/requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements.lock
	touch $(DONE)

# Style, types, and Snakemake's own linter.
lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check --compact-diff Snakefile rules
	$(BIN)/snakemake --lint

# docs/config.md and the JSON schema, from the config's models.
docs: env
	PYTHONPATH=workflow_scripts $(BIN)/python -m synthgain.study.document docs

# The lock file and the conda file, anew from envs/requirements.in.
lock:
	$(PYTHON) envs/lock.py

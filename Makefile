# make install  the environment .venv, with all that tests need
# make install-locked  the same in the versions and hashes of requirements-lock.txt
# make demo     the method on synthetic night clips in minutes, on a CPU: two models, two rounds
# make demo-full   the whole method: 21 trainings in four rounds, with the control
# make real     DARK=<folder of dark clips>: poses and pictures teach each other, see docs/sim_to_real.md
# make test     style checks and all tests but those of the wheel
# make test-twice  the same, and failed tests once more, alone
# make package  build the wheel and the sdist, install them elsewhere, use them
# make docs     the documentation site, in site/
# make snakemake  Snakemake in an environment of its own, for the tests that run a chain on it
# make audit    compare the locked versions with known advisories
# make lint     ruff, mypy, import-linter, the readability measure
# PYTHON=... picks another interpreter (3.11 or newer), WORKERS=... the number of test processes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
AUDIT := build/audit
SNAKEMAKE := build/snakemake
WORKERS ?= 2
# EXTRAS=dev,pose brings models of how people move along.
EXTRAS ?= dev
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help install install-locked audit snakemake demo demo-full real test test-twice docs docs-test package lint format clean

help:
	@sed -n 's/^# //p' Makefile

install: $(INSTALLED)

$(INSTALLED): pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch torchvision
	$(PIP) --editable '.[$(EXTRAS)]'
	touch $(INSTALLED)

install-locked:
	$(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes --requirement requirements-lock.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $(INSTALLED)

# In an environment of its own: it is no part of what is audited. Without it, a line says so.
audit: $(INSTALLED)
	-$(PYTHON) -m venv $(AUDIT) && $(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/python -m benchmarks.advisories $(AUDIT)/bin/pip-audit

# In an environment of its own: it asks for other versions of packages than the project.
snakemake:
	-$(PYTHON) -m venv $(SNAKEMAKE) && $(SNAKEMAKE)/bin/python -m pip install --quiet --disable-pip-version-check 'snakemake>=9.0'

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m benchmarks.readability

test: lint
	$(PYTEST) -n $(WORKERS) -rs --durations=15

# Real services and clocks share a noisy machine there: what fails beside other tests is run once
# more, alone, and both outputs name it.
test-twice: lint
	$(PYTEST) -n $(WORKERS) -rs --durations=15 || { [ $$? -eq 1 ] && \
		$(PYTEST) -n 0 -v --last-failed --last-failed-no-failures none; }

docs-test: $(INSTALLED)
	$(PYTEST) -n $(WORKERS) tests/docs

docs: $(INSTALLED)
	$(PIP) --editable '.[docs]'
	$(BIN)/python -m mkdocs build --strict

package: $(INSTALLED)
	$(BIN)/python -m pytest --run-package tests/package

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(INSTALLED)
	PYTHON=$(BIN)/python SIZE=small bash tools/demo.sh

demo-full: $(INSTALLED)
	PYTHON=$(BIN)/python SIZE=full bash tools/demo.sh

real: $(INSTALLED)
	PYTHON=$(BIN)/python DARK="$(DARK)" bash tools/real.sh

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis

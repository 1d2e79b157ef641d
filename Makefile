# Every target prepares what it needs: setup makes .venv, and the others call it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test test-slow test-targets mutation wheel lint bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml setup.py constraints.txt $(wildcard runtime/*.h runtime/*/*.[ch])
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	touch $(STAMP)

demo: setup
	$(BIN)/squeezenet demo --out demo

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: setup
	$(BIN)/python -m pytest -m slow

test-targets: setup
	$(BIN)/python -m tests.targets.run

# 600 mutants of compress, codec and train: hours, and a run that was stopped goes on.
mutation: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mutation]'
	$(BIN)/python tools/mutation -j 2

# The archive of the sources, and from it the wheel for this machine.
wheel: setup
	$(BIN)/python -m build --quiet --outdir dist .

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python bench/reference_speed.py

clean:
	rm -rf $(VENV) build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# Every target prepares what it needs: setup makes .venv, and the others call it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo docs test test-slow test-targets mutation wheel licences lock release-check lint bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml setup.py constraints.txt $(wildcard native/*.[ch] runtime/*.h runtime/src/* runtime/kernels/* web/src/*)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev,docs]'
	touch $(STAMP)

demo: setup
	$(BIN)/squeezenet demo --out demo

# The documentation site in build/site/html. Every page and link is checked, and no page loads
# anything from another host.
docs: setup
	$(BIN)/python tools/site/make_site.py $(ARGUMENTS)

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: setup
	$(BIN)/python -m pytest -m slow

test-targets: setup
	$(BIN)/python -m tests.runtime.targets.run

# 600 mutants of compress, codec and train: hours, and a run that was stopped goes on.
mutation: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mutation]'
	$(BIN)/python tools/mutation -j 2

# The archive of the sources, from it the wheel for this machine, and beside it its SBOM.
wheel: setup
	$(BIN)/python -m build --quiet --outdir dist .
	$(BIN)/python tools/dependencies.py sbom dist/*.whl

licences: setup
	$(BIN)/python tools/dependencies.py licences

# Hashes for constraints.txt, from PyPI.
lock: setup
	$(BIN)/python tools/lock_requirements.py

# Both in fresh environments: light and each extra; ARGUMENTS=--skip-train leaves torch out.
release-check: setup
	$(BIN)/python tools/release_check.py $(ARGUMENTS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	find bench native runtime tests web -name '*.[ch]' | xargs $(BIN)/clang-format --dry-run --Werror
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python bench/reference_speed.py

clean:
	rm -rf $(VENV) build dist demo .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

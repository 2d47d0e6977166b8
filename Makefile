# `make demo` and `make test` need Python 3.11 or newer and nothing else: each sets up its own
# virtual environment in .venv the first time.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-quick coverage lint types docs dist figures speed solvers clean

demo: $(READY)
	$(BIN)/fixpoint demo --out demo --json demo/demo.json

test: $(READY)  # one process a core, each with one thread of its own
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

test-quick: $(READY)  # one test of every file, none of them slow
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal --quick

coverage: $(READY)  # branches of the three rooms; the last line is the figure in per cent
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal --cov
	@$(BIN)/coverage report --format=total

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

docs: $(READY)  # the site, into site/; a dead link or a page outside the navigation fails
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

dist: $(READY)  # the sdist, and the wheel built from it, as the package index wants them
	$(BIN)/pip install --quiet --constraint constraints.txt build twine
	rm -rf build dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/twine check --strict dist/*

figures: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[benchmarks]'
	$(BIN)/python -m benchmarks.paper --out docs --readme README.md
	$(BIN)/fixpoint demo --out demo
	cp demo/demo.png docs/demo.png
	cp demo/strip.png docs/strip.png

speed: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[benchmarks]'
	$(BIN)/python -m benchmarks.speed --out docs

solvers: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[benchmarks,peers]'
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.solvers --out docs

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fixpoint needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch setuptools build
	$(BIN)/pip uninstall --quiet --yes fixpoint 2>/dev/null  # the name of this project before it was fixpoint-torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[diffusers,triton,test,lint]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info demo site

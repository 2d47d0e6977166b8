# `make demo` and `make test` need Python 3.11 or newer and nothing else: each sets up its own
# virtual environment in .venv the first time.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint types figures speed solvers clean

demo: $(READY)
	$(BIN)/fixpoint demo --out demo --json demo/demo.json

test: $(READY)  # one process a core, each with one thread of its own
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

figures: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[benchmarks]'
	$(BIN)/python -m benchmarks.paper --out docs --readme README.md
	$(BIN)/fixpoint demo --out demo
	cp demo/demo.png docs/demo.png

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
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[diffusers,triton,test,lint]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info demo

# Each target builds .venv from nothing when it must; a second call reuses it and needs no network.
VENV   := .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test test-all lint bench clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[all]' --constraint constraints.txt
	touch $(STAMP)

demo: $(STAMP)          ## train over five sites, draw, evaluate, audit, signed report (under 5 minutes)
	$(BIN)/phoenix-secure run configs/demo.yaml --run-dir runs/demo --overwrite

test: $(STAMP)          ## the quick suite (under 10 minutes)
	$(BIN)/python -m pytest -n 2

test-all: $(STAMP)      ## with the slow tests
	$(BIN)/python -m pytest -n 2 -m ''

lint: $(STAMP)          ## format, lint, types, import contracts, consistent installation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pip check

bench: $(STAMP)         ## speed ratios, measured side by side
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/secagg.py
	$(BIN)/python benchmarks/federation.py
	$(BIN)/python benchmarks/federation_flower.py
	$(BIN)/python benchmarks/dp.py
	$(BIN)/python benchmarks/evidence.py

clean:
	rm -rf $(VENV) runs build *.egg-info

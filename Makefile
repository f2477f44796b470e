# Each target builds .venv from nothing when it must; a second call reuses it and needs no network.
VENV   := .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
QUICK_MINUTES := 5
LONG_MINUTES  := 8
ALL_MINUTES   := 90

.PHONY: demo demo-plain test test-long test-all coverage lint docs notebooks examples dist sbom lock bench clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[all]' --constraint constraints.txt
	touch $(STAMP)

demo: $(STAMP)          ## five sites, one private sum, samples, audit, signed report (2 to 5 minutes of one core)
	$(BIN)/phoenix-secure run configs/demo.yaml --run-dir runs/demo --overwrite

demo-plain: $(STAMP)    ## the same sites train a diffusion model without privacy (4 to 35 minutes, by machine)
	$(BIN)/phoenix-secure run configs/demo_plain.yaml --run-dir runs/demo-plain --overwrite

# A worker that is done takes tests of the other: what expensive fixtures serve stays together.
# Compiled tests are kept whatever the environment says: the next run need not compile them again.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n 2 --dist worksteal

test: $(STAMP)          ## the quick suite
	@echo "quick suite, about $(QUICK_MINUTES) minutes on two cores"
	$(PYTEST) --hypothesis-profile quick

test-long: $(STAMP)     ## what takes seconds each: whole runs, statistics of many draws
	@echo "long tests, about $(LONG_MINUTES) minutes on two cores"
	$(PYTEST) -m 'long and not slow' --hypothesis-profile quick

test-all: $(STAMP)      ## with the slow tests and ten times as many examples
	@echo "all tests, about $(ALL_MINUTES) minutes on two cores"
	$(PYTEST) -m '' --hypothesis-profile thorough

coverage: $(STAMP)      ## branch coverage of what promises secrecy: below 95 % is an error
	$(PYTEST) tests/protocol tests/phoenix_secure/privacy tests/phoenix_secure/federation/secagg \
		tests/phoenix_secure/federation/run/test_start.py \
		tests/phoenix_secure/training/test_gradient_sums.py \
		-m 'not slow' --cov protocol --cov phoenix_secure.privacy --cov-report=
	$(BIN)/coverage report --include 'protocol/*' --fail-under 95
	$(BIN)/coverage report --include 'phoenix_secure/privacy/*' --fail-under 95

lint: $(STAMP)          ## format, lint, types, import contracts, consistent installation, documentation
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pip check
	$(BIN)/mkdocs build --strict --quiet

docs: $(STAMP)          ## the documentation as a site, in build/site; a broken link is an error
	$(BIN)/mkdocs build --strict --quiet

notebooks: $(STAMP)     ## run the notebooks and keep what they print
	$(BIN)/python docs/execute_notebooks.py

examples: $(STAMP)      ## the programs of examples/ and the cells of the notebooks, as tests
	$(PYTEST) -m '' tests/examples

dist: $(STAMP)          ## wheel and sdist in dist/
	$(BIN)/python -m build --no-isolation --outdir dist .

sbom: $(STAMP)          ## CycloneDX bill of materials of the installed environment
	mkdir -p dist
	$(BIN)/cyclonedx-py environment $(VENV) --output-file dist/sbom.cdx.json

lock: $(STAMP)          ## requirements.lock: what a server or a site runs, with hashes
	$(BIN)/uv pip compile --quiet pyproject.toml --constraint constraints.txt --generate-hashes \
		--extra governance --extra huggingface --extra marks --extra medical --extra report-pdf --extra timestamp --python-version 3.11.5 \
		--no-annotate --no-header --output-file requirements.lock
	sed -i '1i # What a server or a site runs, each file by its SHA-256 (PyPI'"'"'s CUDA build of torch). Made by `make lock`.' requirements.lock

bench: $(STAMP)         ## every speed ratio beside its aim, on one page, docs/performance.md; sized for under ten minutes
	$(BIN)/python benchmarks/page.py

clean:
	rm -rf $(VENV) runs build dist *.egg-info

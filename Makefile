# Everything a user or a developer runs. `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
# One process a core; above 8 the demo spends more time starting workers than working.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 1); echo $$((n < 8 ? n : 8)))
# Where the magnetic-tile set lies, for `make realism` and `make fidelity`.
DATA ?= ../shared/data/mtd
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help install install-dev demo test check bench scaling verification realism fidelity detection synergy hypergradients sqe sqe-worth docs clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

install: $(VENV)/.installed ## Install maphc2f into .venv
	@echo "Installed: run $(BIN)/maphc2f --help"

install-dev: $(VENV)/.installed-dev ## Install maphc2f and the developer's tools into .venv

demo: $(VENV)/.installed ## Generate, verify and show a corpus from the embedded pictures, in demo/
	@rm -rf $(DEMO)/corpus
	$(BIN)/maphc2f generate $(DEMO)/corpus --config recipes/demo.yaml --workers $(WORKERS)
	$(BIN)/maphc2f verify $(DEMO)/corpus
	$(BIN)/maphc2f info $(DEMO)/corpus
	$(BIN)/maphc2f sheet $(DEMO)/corpus $(DEMO)/sheet.png
	@echo "Done. Open $(DEMO)/sheet.png: image, mask and fields side by side."

test: $(VENV)/.installed-dev ## Run all tests, a process a core
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile

check: $(VENV)/.installed-dev ## Lint, format, types, layers and dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

bench: $(VENV)/.installed-dev ## Measure speed beside peers, the suite under benchmarks/, and write docs/benchmarks.md
	@mkdir -p build
	OMP_NUM_THREADS=1 $(BIN)/pytest benchmarks --benchmark-enable --benchmark-only --benchmark-timer=time.process_time \
	  --benchmark-max-time=0.5 --benchmark-json=build/benchmarks.json
	$(BIN)/python -m benchmarks.bench_page build/benchmarks.json docs/benchmarks.md

scaling: $(VENV)/.installed-dev ## Measure what a sample costs, simulate a thousand workers, and write docs/scaling.md
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.scaling

verification: $(VENV)/.installed-dev ## Compare the solvers with known answers and write docs/verification.md
	$(BIN)/python -m benchmarks.verification

realism: $(VENV)/.installed-dev ## Compare our masks with real ones (DATA=folder of mtd) and write docs/realism.md
	$(BIN)/python -m benchmarks.realism --data $(DATA)

fidelity: $(VENV)/.installed-dev ## Compare our pictures with real defects (DATA=folder of mtd) and write docs/fidelity.md
	$(BIN)/python -m benchmarks.fidelity --data $(DATA)

detection: $(VENV)/.installed-dev ## Train detectors from our corpora and others', find real defects (DATA=folder of mtd), write docs/detection-mtd.md
	$(BIN)/python -m benchmarks.detection --data $(DATA) --foreground texture --workers $(WORKERS)

synergy: $(VENV)/.installed-dev ## Ablate the blocks of npcF++ and write docs/npcfpp.md
	$(BIN)/python -m benchmarks.synergy

hypergradients: $(VENV)/.installed-dev ## Time the ways to a hypergradient and write docs/hypergradients.md
	$(BIN)/python -m benchmarks.hypergradients

sqe: $(VENV)/.installed-dev ## Train the quality estimator that ships, from embedded pictures alone, and write docs/sqe.md
	$(BIN)/maphc2f generate build/sqe-corpus --config recipes/sqe.yaml --workers $(WORKERS)
	$(BIN)/python -m bisqad.sqe_training build/sqe-corpus --out refine/sqe.safetensors --card docs/sqe.md

sqe-worth: $(VENV)/.installed-dev ## Judge the quality estimator on real defects (DATA=folder of mtd) and write docs/sqe-worth.md
	$(BIN)/python -m benchmarks.sqe_worth --data $(DATA) --workers $(WORKERS)

docs: $(VENV)/.installed-dev ## Build the documentation as a site: open build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean: ## Remove .venv, the demo and every cache
	rm -rf $(VENV) $(DEMO) build dist .benchmarks .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find benchmarks bisqad manifests physics pipeline refine tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps make a second run install nothing. The package is installed in place (-e), so an edited module
# takes effect at once; changed dependencies make the stamps stale.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing maphc2f and its pinned dependencies into $(VENV): a minute or two, about 2 GB ..."
	@$(PIP) install --quiet --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing maphc2f and the developer's tools into $(VENV): a minute or two, about 2 GB ..."
	@$(PIP) install --quiet --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(VENV)/.installed $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make: MaPhC2F needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo not there). Try: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "make: '$(PYTHON)' cannot make a virtual environment; on Debian and Ubuntu install python3-venv" >&2; exit 1; }

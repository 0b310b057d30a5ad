# One command runs the course, one tests it; `make` alone lists them all.

PYTHON ?= .venv/bin/python python3 python3.13 python3.12 python3.11 python
PY := .venv/bin/python
ifeq ($(OS),Windows_NT)
PY := .venv/Scripts/python.exe
endif

# Threads that wait sleep: on a busy machine those that spin take the cores from those at work.
export OMP_WAIT_POLICY ?= passive

.DEFAULT_GOAL := help
.PHONY: help env run test test-all lint lab slides student notebooks address newest links online bench clean distclean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

env: ## make or repair the environment in .venv; nothing to do when it is ready
	@for python in $(PYTHON); do \
		$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && exec $$python tools/env.py; \
	done; \
	for python in $(PYTHON); do \
		$$python -c '' 2>/dev/null && exec $$python tools/env.py; \
	done; \
	echo 'No Python was found. Python 3.11 or newer is needed: https://www.python.org/downloads' >&2; \
	exit 1

run: env ## execute every notebook in order; pages in build/site/index.html
	@$(PY) tools/run.py

test: env ## all tests, then every notebook against its stored outputs, with one thread and with two
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --nbval notebooks
	OMP_NUM_THREADS=2 $(PY) -m pytest --nbval notebooks

test-all: test ## ... and what takes long: every section alone, the browser, Colab's way; needs Chromium
	$(PY) -m pytest -m long

lint: env ## style of the code and the notebooks, and the floors of course_utils
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -c 'from importlinter.cli import lint_imports_command as lint; lint()'

lab: env ## open the course in JupyterLab
	$(PY) -m jupyterlab --ServerApp.root_dir=. notebooks/00_overview.ipynb

slides: env ## a talk of every notebook in build/slides/index.html; needs no network
	@$(PY) tools/slides.py

student: env ## notebooks for a class: build/student without solutions, build/solutions for who grades
	$(PY) tools/student.py
	$(PY) tools/student.py --solutions

notebooks: env ## execute the notebooks and store their outputs in place
	$(PY) tools/notebooks.py store

address: env ## write the repository address of pyproject.toml into badges and setup cells
	$(PY) tools/address.py

newest: env ## put the newest releases in place of the tested set, to see whether the course still runs
	$(PY) -m pip install --upgrade --upgrade-strategy eager --editable '.[lab,test,browser]'

links: env ## ask for every link of the notebooks and documents; prints the dead ones
	@$(PY) tools/links.py

online: env ## download torchvision's published networks (0.5 GB) and see what they find in a photo
	@$(PY) tools/online.py

bench: env ## measure speed on this computer, into docs/benchmarks.md
	$(PY) tools/bench.py

clean: ## remove build/ and all caches
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage
	find . -path ./.venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

distclean: clean ## ... and the environment
	rm -rf .venv

# make demo   every step on drawn photographs, in a few minutes
# make test   all checks and tests; make check is the fast part
# Both create .venv first if it is missing. They need Python >= 3.11 with venv, and make.

PYTHON ?= python3
BIN := .venv/bin
FAST := not slow and not gpu and not browser and not real

# Keep compiled Python in .venv, whatever the environment says: compiling torch, matplotlib and the tests again takes
# longer than loading them, and the tests start a hundred processes.
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/pycache
# `import foveal` sets this as well, but the tests import torch first.
export GOMP_SPINCOUNT ?= 20000
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo docs check test lint types fast avx2 slow browser system clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Foveal needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev,weights,docs,dicom,hospital,excel,parquet,ray,explain,mlflow,tensorboard,wandb,serve,postgresql,export]'
	@touch $@

demo: setup
	$(BIN)/foveal demo --out demo

check: lint types fast

test: lint types docs fast slow

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy foveal

# The site, from docs/; a warning is an error. Open build/docs/index.html.
docs: setup
	$(BIN)/sphinx-build --fresh-env --fail-on-warning --keep-going --quiet --builder html docs build/docs

# Two processes of one thread each: the networks are too small to profit from more threads. The tests of a file stay in
# one process, so that shared fixtures are made once.
fast: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -m '$(FAST)' -n 2 --dist loadfile --durations=10

# The fast tests, run like on a CPU without AVX-512 and bf16.
avx2: setup
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(MAKE) fast

# Everything else. Tests that measure memory or time, or train in several processes, run one at a time. Tests that need a
# GPU, real data sets or a browser are skipped if these are missing.
slow: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -m '(slow or gpu or browser or real) and not alone' -n 2 --dist loadfile --durations=10
	$(BIN)/pytest -m alone --durations=10

# Only tests need these: a browser, and a reader of DICOM structured reports.
system:
	command -v chromium >/dev/null && command -v dsrdump >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium fonts-dejavu-core dcmtk >/dev/null; }

clean:
	rm -rf .venv demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache

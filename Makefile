# Every target sets up what it needs in .venv; a machine with Python 3.10 to 3.13 is enough.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What rlsp needs, and that with what developers need.
RUNTIME := $(VENV)/.installed-runtime
INSTALLED := $(VENV)/.installed
# pytorch adds the tests of PyTorch checkpoints, and gigabytes: make EXTRAS=dev,pytorch test
EXTRAS ?= dev

# Two targets would install into one .venv at once.
.NOTPARALLEL:
.PHONY: demo test test-all lint format offline-kit

demo: $(RUNTIME)  ## Upscales something and shows it.
	$(BIN)/rlsp demo --force

# Two processes, each with modules of its own; in the order of their names, the largest are not among the last.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=10

test: $(INSTALLED)  ## Runs every test that is not marked as slow.
	$(PYTEST) -m "not slow"

test-all: $(INSTALLED)  ## Runs every test.
	$(PYTEST)

lint: $(INSTALLED)  ## Checks style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## Puts style right.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Clips and photographs for the kit. They are other people's: dist/ is never committed.
DATA ?= $(or $(RLSP_DATA),../shared/data)/train
PHOTOS ?= $(or $(RLSP_DATA),../shared/data)/photos

offline-kit: $(INSTALLED)  ## Packs what training needs where there is JAX but no TensorFlow and no network.
	$(BIN)/python -m rlsp_tf.training.offline_kit pack $(DATA) dist/offline-kit $(if $(wildcard $(PHOTOS)),--photos $(PHOTOS))

$(RUNTIME): WANTED := .
$(INSTALLED): WANTED := .[$(EXTRAS)]
$(RUNTIME) $(INSTALLED): setup.py pyproject.toml rlsp_tf/_version.py
	@command -v $(PYTHON) >/dev/null || \
	    { echo "There is no $(PYTHON); install Python 3.10 to 3.13 or name it: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	    { echo "$(PYTHON) is $$($(PYTHON) -V 2>&1), but TensorFlow runs on Python 3.10 to 3.13;" \
	    "name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "$(PYTHON) cannot make virtual environments; install its venv package" \
	    "(Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "Setting up $(VENV); TensorFlow is large, this takes some minutes."
	@# A virtual environment that was interrupted while it was made has no pip, or no pyvenv.cfg.
	@{ test -f $(VENV)/pyvenv.cfg && $(BIN)/python -m pip --version; } >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e "$(WANTED)"
	@touch $(RUNTIME) $@

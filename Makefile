# make demo   predict three antibodies; make test   run the tests. Each sets itself up in .venv first.
#
# PYTHON       the Python (3.11 or newer) that .venv is made of
# TORCH_INDEX  another package index for torch alone, for example PyTorch's own CPU builds
# PYTEST_ARGS  further arguments of pytest, for example: make test PYTEST_ARGS='-m "slow or not slow"'

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SOURCES := $(shell find openfoldpp csrc bindings cmake patches -type f \
             -not -name '*.pyc' -not -name '*.so' 2>/dev/null) \
           pyproject.toml CMakeLists.txt constraints.txt README.md

.PHONY: demo test lint clean
.DELETE_ON_ERROR:

demo: $(VENV)/demo-ready
	$(BIN)/run_pretrained_openfold.py examples/fv --plugins openfoldpp --output_dir demo_output --skip_relaxation

test: $(VENV)/test-ready lint
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest --cov --cov-report=term:skip-covered $(PYTEST_ARGS)

lint: $(VENV)/test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) build dist demo_output

$(VENV)/torch-ready: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "openfoldpp needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	@touch $@

$(VENV)/demo-ready: $(VENV)/torch-ready $(SOURCES)
	$(PIP) install -c constraints.txt '.[fv]'
	$(BIN)/openfoldpp install-openfold --constraint constraints.txt
	@touch $@

$(VENV)/test-ready: $(VENV)/torch-ready $(SOURCES)
	$(PIP) install -c constraints.txt '.[test]'
	$(BIN)/openfoldpp install-openfold --constraint constraints.txt
	@touch $@ $(VENV)/demo-ready

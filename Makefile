# `make demo` and `make test` set up all they need in .venv. On a machine with a GPU, or to pick another build of
# torch, pass pip's own options: make demo TORCH='torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu'
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
READY := $(VENV)/.ready
DEV_READY := $(VENV)/.ready-dev

.PHONY: demo test check docs clean

demo: $(READY)
	$(BIN)/spikenas run --data digits --flash 32KB --ram 16KB --out runs/demo

# one process a core, which shares tests by file, because tests of a file share what they have trained
test: $(DEV_READY) check
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

check: $(DEV_READY)
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(DEV_READY)
	$(BIN)/mkdocs build --strict

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "spikenas needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3"; exit 1; }
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "python3 has no venv module; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "installing into $(VENV), which takes some minutes and prints nothing"
	$(PIP) $(TORCH)
	$(PIP) --editable '.[mcu]'
	@touch $@

$(DEV_READY): $(READY)
	@echo "installing the tools of the tests"
	$(PIP) --editable '.[dev]'
	@$(BIN)/python -c 'import triton' 2>/dev/null || $(PIP) 'triton>=3.9' || \
	  echo "Triton cannot be had here: the tests of what runs on GPUs will be skipped"
	@touch $@

clean:
	rm -rf $(VENV) runs build dist site

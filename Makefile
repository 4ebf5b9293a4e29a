# make demo   set up, then the main job on embedded defaults
# make test   set up, then lint, types and all tests
# make notebook, make clean

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# what the tests meet as real peers; installed by `make test` where that needs no password
PEERS  := qemu-utils nbdkit nbdkit-plugin-python libnbd-bin python3-libnbd fio

.PHONY: demo test lint peers notebook clean

demo: $(READY)
	$(BIN)/python demo/run.py

test: $(READY) peers lint
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

peers:
	@sh .ci/peers $(PEERS)

notebook: $(READY)
	$(BIN)/pip install --quiet notebook
	cd notebooks && ../$(BIN)/jupyter notebook

$(READY): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "blkbox needs Python 3.11 or later: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

clean:
	rm -rf $(VENV) demo/out .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

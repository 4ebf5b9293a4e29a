# make demo   set up, then the main job on embedded defaults
# make test   set up, then format, lint, types and all tests, in parallel
# make check  format, lint, types and the fast tests (under a minute): before every commit
# make bench  measure the data path against its peers (about 5 minutes, an idle machine)
# make soak   long checks of what blkbox promises (some hours; docs/reliability.md)
# make docs   the documentation's site, in build/site
# make notebook, make clean

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# what the tests meet as real peers; installed by `make test` where that needs no password
# (qemu-system-common has qemu-storage-daemon)
PEERS  := openssl qemu-utils qemu-system-common nbdkit nbdkit-plugin-python libnbd-bin python3-libnbd fio blktrace fuse3

.PHONY: demo test check lint peers bench soak docs notebook clean

demo: $(READY)
	$(BIN)/python demo/run.py

test: $(READY) peers lint
	$(BIN)/python -m pytest

check: lint
	$(BIN)/python -m pytest -m "not slow and not peer"

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

peers:
	@sh .ci/peers $(PEERS)

bench: $(READY) peers
	mkdir -p benchmarks/out
	$(BIN)/python -m benchmarks.datapath --seconds 1 --rounds 5 --json benchmarks/out/datapath.json
	$(BIN)/python -m benchmarks.chart benchmarks/out/datapath.json benchmarks/out/datapath.png
	$(BIN)/python -m benchmarks.conflicts
	$(BIN)/python -m benchmarks.replay --rounds 3
	$(BIN)/python -m benchmarks.long_trace
	$(BIN)/python -m benchmarks.disk_sizes
	$(BIN)/python -m benchmarks.frames
	$(BIN)/python -m benchmarks.provenance --rounds 3
	$(BIN)/python -m benchmarks.matrix --cells 40 --ops 500

soak: $(READY) peers
	$(BIN)/python -m benchmarks.soak kill
	$(BIN)/python -m benchmarks.soak slow
	$(BIN)/python -m benchmarks.soak traces --mutations 100000
	$(BIN)/python -m benchmarks.tls
	$(BIN)/python -m benchmarks.soak overlap --driver raw
	$(BIN)/python -m benchmarks.soak overlap --driver qcow2

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo build/site/index.html

notebook: $(READY)
	$(BIN)/pip install --quiet notebook
	cd notebooks && ../$(BIN)/jupyter notebook --allow-root

$(READY): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "blkbox needs Python 3.11 or later: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

clean:
	rm -rf $(VENV) demo/out build/site .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

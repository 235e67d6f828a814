# `make bench` and `make test` need Python 3.10+ and make, nothing else: each makes .venv when it is not there.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
CONFIG ?= benchmarks/configs/glyphs.yaml

.PHONY: bench gains speed test lint types docs dist clean

# A setting of the benchmark is given as `make bench ARGS="data.root=path"`.
bench: $(READY)
	$(BIN)/python -m benchmarks compare $(CONFIG) $(ARGS)

# The report of docs/gains.md: on each of SETS the plain losses and the methods are tuned, then compared. DATA holds
# a folder for each set. Published settings are compared, whatever this tuning finds.
STUDIES := benchmarks/configs/studies
SETS    ?= glyphs
DATA    ?= data
gains: $(READY)
	set -e; for set in $(SETS); do \
		$(BIN)/python -m benchmarks tune $(STUDIES)/methods_$${set}_plain.yaml data.root=$(DATA)/$$set; \
		$(BIN)/python -m benchmarks tune $(STUDIES)/methods_$$set.yaml data.root=$(DATA)/$$set; \
		$(BIN)/python -m benchmarks compare $(STUDIES)/methods_$${set}_tuned.yaml data.root=$(DATA)/$$set; \
	done

speed: $(READY)
	$(BIN)/python -m benchmarks.speed

# The documentation is tested, too.
test: $(VENV)/.ready_for_docs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

docs: $(VENV)/.ready_for_docs
	$(BIN)/python -m mkdocs build --strict

# The source archive and the wheel, tested outside of the checkout. ARGS="torch==2.2.0 'numpy<2'" tests another torch.
dist: $(READY)
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	PYTHON=$(PYTHON) .ci/test_wheel $(ARGS)

# The stamp is newer than what it was made from, so a second call installs nothing.
$(READY): setup.cfg pyproject.toml constraints.txt
	@echo "Installing into $(VENV), which takes some minutes."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $$(grep '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[benchmark,dev]"
	touch $@

$(VENV)/.ready_for_docs: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info

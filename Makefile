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

# The report of docs/gains.md. DATA holds a folder for each of SETS. Published settings are compared, whatever the searches
# find.
STUDIES := benchmarks/configs/studies
SETS    ?= glyphs
DATA    ?= data
SEARCHED_glyphs        := methods_glyphs_plain methods_glyphs miner_glyphs miner_multi_similarity_glyphs \
	combinations_glyphs
COMPARED_glyphs        := methods_glyphs_tuned miner_glyphs_tuned controls_glyphs margins_glyphs steps_glyphs scales_glyphs \
	noise_10_glyphs noise_30_glyphs unseen_tuned_glyphs seen_tuned_glyphs seeds_glyphs_multi_similarity \
	combinations_glyphs_tuned controls_combination_glyphs
SEARCHED_grocery       := methods_grocery_plain methods_grocery miner_grocery combinations_grocery
COMPARED_grocery       := methods_grocery_tuned miner_grocery_tuned scales_grocery seeds_grocery_contrastive \
	seeds_grocery_multi_similarity combinations_grocery_tuned
SEARCHED_omniglot_full := methods_omniglot_full_plain methods_omniglot_full miner_omniglot_full \
	miner_multi_similarity_omniglot_full combinations_omniglot_full regimes_2_images
COMPARED_omniglot_full := methods_omniglot_full_tuned miner_omniglot_full_tuned regimes_20_images_tuned regimes_2_images_tuned \
	seeds_omniglot_full_contrastive combinations_omniglot_full_tuned controls_combination_omniglot_full
SEARCHED_emoji         := methods_emoji_plain methods_emoji miner_emoji combinations_emoji
COMPARED_emoji         := methods_emoji_tuned miner_emoji_tuned controls_emoji new_vendors_emoji combinations_emoji_tuned
REGIMES_fonts          := 50_classes 5000_classes 150_steps 4800_steps wide 512_dimensions not_augmented
SEARCHED_fonts         := methods_fonts_plain methods_fonts miner_fonts combinations_fonts $(REGIMES_fonts:%=regimes_%)
COMPARED_fonts         := methods_fonts_tuned miner_fonts_tuned new_fonts_fonts regimes_1000_classes_tuned \
	seeds_fonts_contrastive combinations_fonts_tuned seeds_fonts_combination $(REGIMES_fonts:%=regimes_%_tuned)
gains: $(SETS:%=gains_%)
gains_%: $(READY)
	$(if $(COMPARED_$*),,$(error SETS: unknown set $*. Known are glyphs, grocery, omniglot_full, emoji and fonts))
	set -e; for study in $(SEARCHED_$*); do \
		$(BIN)/python -m benchmarks tune $(STUDIES)/$$study.yaml data.root=$(DATA)/$* $(ARGS); \
	done; for study in $(COMPARED_$*); do \
		$(BIN)/python -m benchmarks compare $(STUDIES)/$$study.yaml data.root=$(DATA)/$* $(ARGS); \
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

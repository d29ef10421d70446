# Every target makes the virtual environment it needs, so `make demo` and `make test` work on a fresh clone.
#
#   PYTHON       the interpreter that makes .venv (3.11 or newer)
#   TORCH_ARGS   more for `pip install torch`: on Linux, PyPI's torch carries CUDA (2.5 GB); the small CPU build is
#                TORCH_ARGS="--index-url https://download.pytorch.org/whl/cpu"
#   DEMO_ARGS    more for `llava demo`, e.g. DEMO_ARGS="--seed 1 --output_dir elsewhere"
#   TEST_ARGS    more for pytest, e.g. TEST_ARGS="tests/data -k packing"
#   JOBS         pytest processes

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH ?= torch==2.13.0
TORCH_ARGS ?=
DEMO_ARGS ?=
TEST_ARGS ?=
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all old-transformers conformance soak bench gpu cards wheel docs style types clean

help:  ## this list
	@grep -E '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/:.*  ## /\t/' | expand -t 20

# The stamp is newer than what it was made from, or the install runs again. torch goes first, by its exact number:
# left to a dependency's range, pip may choose a CUDA build of several gigabytes.
$(STAMP): pyproject.toml constraints/cpu.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"transformers-llava needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}. Use: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH_ARGS) "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints/cpu.txt -e ".[train,demo,dev]"
	@touch $@

install: $(STAMP)  ## make .venv with everything (torch first, CPU build pinned)

demo: $(STAMP)  ## train, evaluate, save, load and ask a tiny LLaVA on this machine; writes demo_output/
	GOMP_SPINCOUNT=20000 $(BIN)/llava demo $(DEMO_ARGS)

test: $(STAMP)  ## all tests (no network, no GPU)
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist loadscope --no-loadscope-reorder $(TEST_ARGS)

test-all: $(STAMP)  ## all tests, those that draw at random with all their repetitions: 2,000 mutations instead of 400
	$(MAKE) test TEST_ARGS="--exhaustive $(TEST_ARGS)"

# An environment of its own below build/: it holds torch, Pillow and transformers 4.57.6, and nothing of this package.
OLD := build/old_transformers
old-transformers: $(STAMP)  ## exports load in transformers 4.57.6 and answer as they do here (installs it below build/)
	test -x $(OLD)/venv/bin/python || $(BIN)/python -m venv $(OLD)/venv
	$(OLD)/venv/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH_ARGS) "$(TORCH)"
	$(OLD)/venv/bin/python -m pip install --quiet --disable-pip-version-check numpy pillow transformers==4.57.6
	HF_HUB_OFFLINE=1 $(BIN)/python tests/support/old_transformers.py write $(OLD)/folders
	HF_HUB_OFFLINE=1 $(OLD)/venv/bin/python tests/support/old_transformers.py compare $(OLD)/folders

conformance: $(STAMP)  ## transformers' own tests against our classes and the built-in ones (5 minutes; fetches them by pip)
	$(BIN)/python -m benchmarks.conformance.run $(ARGS)

soak: $(STAMP)  ## kill trainings at random moments, resume them, compare the bits (5 minutes)
	GOMP_SPINCOUNT=20000 $(BIN)/python -m benchmarks.soak --json benchmarks/results/soak.json

bench: $(STAMP)  ## speed and memory against the built-in model on this machine's CPU (under 10 minutes)
	GOMP_SPINCOUNT=20000 $(BIN)/python -m benchmarks.harness.run

gpu: $(STAMP)  ## the same questions to one GPU at the shapes of a 7B; ARGS=--dry runs them small on the CPU
	for question in ceilings training low_memory attention inference host; do \
		$(BIN)/python -m benchmarks.gpu.$$question $(ARGS) || exit 1; done

cards: $(STAMP)  ## render hub_cards/ again from its facts and the packaged recipes
	$(BIN)/python -m transformers_llava.hub.cards.stated hub_cards

# The environment is new, and has the core dependencies alone: what a user of `pip install transformers-llava` has.
wheel:  ## build sdist and wheel; install the wheel into a new environment, convert there and answer (1 minute)
	rm -rf dist build/wheel
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/python -m pip install --quiet --disable-pip-version-check "build>=1.2" "hatchling>=1.26" $(TORCH_ARGS) "$(TORCH)"
	build/wheel/bin/python -m build --no-isolation -o dist
	build/wheel/bin/python -m pip install --quiet --disable-pip-version-check -c constraints/cpu.txt dist/*.whl
	cd build && HF_HUB_OFFLINE=1 wheel/bin/python ../tests/wheel/answer.py ../tests/fixtures/checkpoints

docs: $(STAMP)  ## build the site into build/site; a broken link fails
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints/cpu.txt -e ".[docs]"
	$(BIN)/mkdocs build --clean

style: $(STAMP)  ## format, lint, check types
	$(BIN)/ruff format src tests examples
	$(BIN)/ruff check --fix src tests examples
	$(BIN)/mypy

types: $(STAMP)  ## check types only
	$(BIN)/mypy

clean:  ## remove .venv and what demo and tests wrote
	rm -rf $(VENV) demo_output build dist site .pytest_cache .mypy_cache .ruff_cache

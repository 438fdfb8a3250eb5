# Every target installs what it needs first. On a fresh machine: `make demo` or `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo demo-short test test-slow check format bench results docs

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[demo,dev,bench]"
	touch $@

# Train a sentiment classifier on 8,530 real film reviews and report on rows it has never seen.
demo: setup
	$(BIN)/textune train examples/demo.toml --run runs/demo-$$(date +%Y%m%d-%H%M%S)

# The same on 560 rows, to see that everything works.
demo-short: setup
	$(BIN)/textune train examples/demo.toml --run runs/demo-short-$$(date +%Y%m%d-%H%M%S) \
		data.train.take=800 data.train.shuffle=true data.test.count=160 \
		data.validation.count=80 "train.duration=1 epochs" "train.schedule.warmup=2 steps"

test: setup
	$(BIN)/python -m pytest

test-slow: setup
	$(BIN)/python -m pytest -m slow

# Format, lint and strict types.
check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Train the example named by TASK with textune and with transformers.Trainer, and rebuild docs/results.md.
TASK ?= trec
SEEDS ?= 0
DATA ?= examples/data
bench: setup
	$(BIN)/python bench/textune_runs.py examples/$(TASK).toml --seeds $(SEEDS) --data-folder $(DATA)
	$(BIN)/python bench/trainer_reference.py examples/$(TASK).toml --seeds $(SEEDS) --data-folder $(DATA)
	$(BIN)/python bench/results_table.py

# Rebuild the generated pages.
docs: setup
	$(BIN)/textune schema --markdown > docs/configuration.md
	$(BIN)/python bench/results_table.py

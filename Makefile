# The same as plain commands, for Windows too, stands in README.md.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A machine with an NVIDIA driver takes PyPI's CUDA build of torch, any other the CPU wheel.
CONSTRAINTS ?= $(if $(shell command -v nvidia-smi 2>/dev/null),constraints/gpu.txt,constraints/cpu.txt)
# Where the CPU wheel of torch comes from, if not from the configured index, e.g.
#   make run TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
PIP_INSTALL := $(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
ARGS ?=

.PHONY: run test test-vllm lint format bench fuzz soak demo-model clean

run: $(VENV)/.run-stamp
	$(BIN)/bimedix2 serve $(ARGS)

test: $(VENV)/.dev-stamp
	$(BIN)/python -m pytest $(ARGS)

# About 6 GB and ten minutes the first time: vLLM for the CPU, in an environment of its own.
VLLM_VENV ?= .venv-vllm
test-vllm: $(VENV)/.dev-stamp
	sh tests/vllm/setup.sh $(VLLM_VENV) $(PYTHON)
	VLLM_PYTHON=$(VLLM_VENV)/bin/python $(BIN)/python -m pytest tests/vllm -m vllm $(ARGS)

lint: $(VENV)/.dev-stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev-stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev-stamp .bench-peers
	$(BIN)/python -m tests.benchmarks $(ARGS)

# Decoders pydicom can use, only to be compared with; without a connection the benchmark does without them.
.bench-peers:
	-$(BIN)/python -m pip install --quiet --no-deps --target $@ \
		"pylibjpeg>=2,<3" "pylibjpeg-openjpeg>=2.5,<3" "pylibjpeg-rle>=2,<3" "pyjpegls>=1.5,<2" "python-gdcm>=3.2,<4"

# Fifty thousand damaged files, some five minutes; e.g. ARGS="--inputs 1000 --target dicom".
fuzz: $(VENV)/.dev-stamp
	$(BIN)/python -m tests.fuzz $(ARGS)

# A thousand deaths of a process four users stream through; two or three minutes.
soak: $(VENV)/.dev-stamp
	BIMEDIX2_KILLS=1000 $(BIN)/python -m pytest tests/app/history/test_kills.py $(ARGS)

demo-model: $(VENV)/.dev-stamp
	$(BIN)/python -m engine.training.demo_model $(ARGS)

clean:
	rm -rf .bench-peers $(VENV) $(VLLM_VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"

$(VENV)/.run-stamp: pyproject.toml $(wildcard constraints/*.txt) | $(VENV)/bin/python
	$(PIP_INSTALL) --editable .
	touch $@

$(VENV)/.dev-stamp: pyproject.toml $(wildcard constraints/*.txt) | $(VENV)/bin/python
	$(PIP_INSTALL) --editable . --group dev
	touch $@ $(VENV)/.run-stamp

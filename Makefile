# One command for each habit. Everything is installed into .venv; nothing else is touched.
# `make test` runs the tests against PyTorch where .venv has it: .venv/bin/python -m pip install torch

PYTHON ?= python3
RUN := .venv/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check

# Two files at a time: each keeps to one core.
ONE_CORE := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo test lint format docs mutants sanitize torture bench bench-training bench-check bench-diagnose bench-flow bench-derive bench-cells clean

demo: .venv/installed-report  ## train, check, catch a fault, write throughtime-report.html
	@$(RUN) -m throughtime demo $(DEMO)

test: .venv/installed-test  ## everything, docs and examples included
	@$(ONE_CORE) $(RUN) -m pytest -n 2 --dist loadfile $(TESTS)

lint: .venv/installed-lint  ## style and types
	@$(RUN) -m ruff check
	@$(RUN) -m ruff format --check
	@$(RUN) -m mypy

format: .venv/installed-lint
	@$(RUN) -m ruff check --fix
	@$(RUN) -m ruff format

docs: .venv/installed-docs  ## build/docs/index.html
	@$(RUN) -m sphinx -q -W -b html docs build/docs
	@echo "build/docs/index.html"

mutants: .venv/installed-test  ## break every backward pass on purpose; the tests must notice
	@$(ONE_CORE) $(RUN) tools/mutants.py $(MUTANTS)

sanitize:  ## the compiled engine under the address, undefined-behaviour and thread sanitizers
	@tools/sanitize

torture: .venv/installed-test  ## kills, damaged files, hostile programs and libraries, too little memory
	@PYTHONPATH=tests $(ONE_CORE) $(RUN) -m torture $(TORTURE)

bench: .venv/installed-report  ## speed of the layers, side by side with PyTorch where .venv has it
	@$(RUN) -m benchmarks engine $(BENCH)

bench-training: .venv/installed-report  ## characters a second, likewise
	@$(RUN) -m benchmarks training $(BENCH)

bench-check: .venv/installed-report  ## verdicts on right and wrong gradients, beside other tools
	@$(RUN) -m benchmarks check $(BENCH)

bench-diagnose: .venv/installed-report  ## causes named for wrong gradients, and for right ones
	@$(RUN) -m benchmarks diagnose $(BENCH)

bench-flow: .venv/installed-report  ## the lag matrix beside PyTorch, and whether the advice holds
	@$(RUN) -m benchmarks flow $(BENCH)

bench-derive: .venv/installed-report  ## cells from their forward equations, beside autograd
	@$(RUN) -m benchmarks derive $(BENCH)

bench-cells: .venv/installed-report  ## users' cells compiled, beside torch loops and JAX scans
	@$(RUN) -m benchmarks cells $(BENCH)

clean:
	rm -rf .venv build dist docs/faults .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "throughtime needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; make PYTHON=python3.12 …")'
	@command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || \
		{ echo "throughtime needs a C++20 compiler: install g++ or clang++" >&2; exit 1; }
	@test -x $(RUN) || $(PYTHON) -m venv .venv
	@touch $@

NATIVE := CMakeLists.txt $(wildcard src/throughtime/native/*)

.venv/installed-%: .venv/made pyproject.toml $(NATIVE)
	@echo "installing throughtime[$*] into .venv"
	@$(PIP) --editable '.[$*]'
	@touch $@

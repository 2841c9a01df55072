# `make demo` does the main job, `make test` runs the tests. Both build the environment they need.
PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3.10 python3; do \
	$$p -c 'import sys; raise SystemExit(sys.version_info < (3, 10))' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Real video files to explain in the demo as well, where there are any.
REAL_CLIPS ?= $(wildcard ../shared/data/clips/*.mp4)

.PHONY: demo test lint types clean

demo: $(READY)
	$(BIN)/python -m benchmarks run demo --output demo-output --clips $(wordlist 1,2,$(REAL_CLIPS))

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "captum_ext needs Python 3.10 or newer; none was found on PATH." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $(READY)

clean:
	rm -rf $(VENV) demo-output benchmark-output .mypy_cache .pytest_cache .ruff_cache

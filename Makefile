# `make demo` and `make test` set everything up themselves; `make help` lists the rest.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OLIST ?= ../shared/data/olist
BENCH_EVENTS ?= 2000000

# Python compiles what is imported, once: most of what is installed never is, and not to keep what was compiled would
# have each process compile its imports anew
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
# 400 MB of pyspark are built here and unpacked at once: not worth compressing in between
STORED := --config-settings-package pyspark:--build-option=--compression=stored

.PHONY: help setup demo test check unit bench docs examples lock clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## make .venv with everything for development in it

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not on the PATH: install Python 3.11, or name another with make PYTHON=..."; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) uv
	@# uv does not read the settings of pip: where those name the only registry there is, pip does it all, and takes longer
	$(BIN)/uv pip install --python $(BIN)/python $(STORED) --constraint constraints.txt --editable '.[dev]' || $(PIP) --editable '.[dev]'
	@$(BIN)/python -c "import lightgbm" || { echo "LightGBM needs the system's OpenMP library; install it with: apt-get install -y libgomp1"; exit 2; }
	@touch $(STAMP)

demo: setup  ## run the main job on a made-up ecosystem: validate, train, score, publish, report, route
	$(BIN)/partnerml demo --dir demo --force

test: setup  ## every test, the long ones too
	$(BIN)/python -m pytest -n 2 --dist loadgroup

check: setup  ## the quick loop: ruff, strict mypy, import-linter, unit tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow" -q

bench: setup  ## print the benchmark tables; BENCH_EVENTS=20000000 is the size of the bars
	$(PIP) --no-deps lifetimes
	for script in benchmarks/[a-z]*.py; do \
		case $$script in */features.py|*/incremental.py|*/peers.py) size="--events $(BENCH_EVENTS)";; *) size=;; esac; \
		$(BIN)/python $$script $$size || exit 1; \
	done

docs: setup  ## build the docs; a broken example, link or reference fails
	$(BIN)/python -m pytest -q tests/test_docs.py tests/test_examples.py
	$(BIN)/sphinx-build --fail-on-warning --nitpicky --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

lock: setup  ## write the constraints file anew from what is installed: names and versions only
	$(BIN)/python -m pip freeze --exclude-editable --disable-pip-version-check | grep -E '^[A-Za-z0-9._-]+==' | sort -f > constraints.txt

clean:  ## remove what the other targets made
	rm -rf $(VENV) demo docs/_build dist .mypy_cache .ruff_cache .pytest_cache

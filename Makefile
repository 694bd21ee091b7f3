# Every target does the set-up it needs in its own .venv; a second run skips what is done.
#   make demo   real data, both methods: trained, packaged, served, compared, with a report at the end
#   make test   the tests
#
# torch is installed beside the lock, so that one lock serves CPU and CUDA. For a build of your own choice tell pip where
# to look, for example PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS with the CPU wheels; the version stays the same.

PYTHON ?= python3
TORCH := torch==2.13.0
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

.PHONY: setup fix check test demo serve lock

setup: .venv/done

.venv/done: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; give it: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "[1/4] a virtual environment in .venv"
	@$(PYTHON) -m venv .venv
	@echo "[2/4] the locked packages (about 130, some minutes the first time)"
	@$(PIP) install --no-deps --require-hashes -r requirements.lock
	@echo "[3/4] $(TORCH) (with no wheels of your own choice, pip takes the CUDA build: several GB)"
	@$(PIP) install $(TORCH)
	@echo "[4/4] Overtile itself"
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A process a core, each with one thread for linear algebra: threads of several processes would wait for each other.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile

demo: setup
	@$(BIN)/overtile demo

serve: setup
	@$(BIN)/overtile serve

# Resolves anew for every Python from 3.11 on; torch stays out, see pyproject.toml.
lock: setup
	$(BIN)/uv pip compile --universal --python-version 3.11 --group dev pyproject.toml --generate-hashes \
		--no-emit-package torch --no-annotate --no-header --quiet -o requirements.lock

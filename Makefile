# Every target does the set-up it needs in its own .venv; a second run skips what is done.
#   make demo   real data, both methods: trained, packaged, served, compared, with a report at the end
#   make test   the tests
#   make container-steps   what docker/Dockerfile builds, without a container engine; takes root on Debian
#
# torch is installed beside the lock, so that one lock serves CPU and CUDA. For a build of your own choice tell pip where
# to look, for example PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS with the CPU wheels; the version stays the same.

PYTHON ?= python3
TORCH := torch==2.13.0
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

.PHONY: setup fix check test container-steps demo serve lock

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
	@echo 'import sys; {"service.server", "service.engine.main", "imaging.reader_process"} & set(sys.orig_argv) and (sys.path.append("$(CURDIR)/tests/audit"), __import__("server_audit"), sys.path.pop())' \
		>$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/overtile_audit.pth  # tests look at servers
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
test: setup .venv/debian
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile

# Debian's nginx, libfaketime and strace for tests, unpacked and not installed, so that nothing starts. Where they aren't to be had their tests
# are skipped, and fail in CI.
.venv/debian: | .venv/done
	@if ! command -v apt-get >/dev/null; then exit 0; fi; \
	rm -rf $@.part && mkdir $@.part && cd $@.part && apt-get update -qq \
		&& apt-get download -qq -o APT::Sandbox::User=root nginx libfaketime strace \
		&& for package in *.deb; do dpkg-deb --extract $$package .; done \
		&& mv ../debian.part ../debian || echo "no nginx, libfaketime and strace; their tests are skipped"

# The Dockerfile's own steps in a fresh Debian, and Overtile in what they made.
container-steps: setup
	@command -v mmdebstrap >/dev/null || \
		{ apt-get update -qq && apt-get install -qq --yes --no-install-recommends mmdebstrap >/dev/null; }
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow tests/docker/test_container_steps.py

demo: setup
	@$(BIN)/overtile demo

serve: setup
	@$(BIN)/overtile serve

# Resolves anew for every Python from 3.11 on; torch stays out, see pyproject.toml.
lock: setup
	$(BIN)/uv pip compile --universal --python-version 3.11 --group dev pyproject.toml --generate-hashes \
		--no-emit-package torch --no-annotate --no-header --quiet -o requirements.lock

# Everything from a bare Debian 12 with Python 3.11 to 3.13; what is missing is installed first (root through sudo when not root already).
#
#   make demo        decode a capture of a real Docker Swarm, and say what is seen
#   make test        everything that must hold: lint, types, import rules, tests
#   make lint types  parts of it, alone
#   make test-vm     the tests that need another kernel (ESP, netem, IPVS), in an emulated machine; half an hour
#   make fuzz        mutate every capture: MUTANTS=1000000 SEED=1
#   make fuzz-asan   the same with the compiled parts built under AddressSanitizer
#   make bench       speed and memory, side by side with tshark, tcpdump, scapy and dpkt
#   make notebooks   open the notebooks in JupyterLab
#   make docs        write docs/ again from the code
#   make captures    write captures/made/ again from its scripts
#   make clean       remove what these targets have made, .venv included
#
# PYTHON chooses the interpreter (make test PYTHON=python3.13 VENV=.venv-3.13), TESTS what pytest runs (make test TESTS=tests/decode).

PYTHON ?= python3
VENV ?= .venv
MUTANTS ?= 1000000
SEED ?= 1
TESTS ?=

BIN := $(VENV)/bin
READY := $(VENV)/ready
KERNELS := $(wildcard vxtool/*/*.pyx vxtool/*/*.pxd)
CODE := vxtool tests benchmarks captures mininet_topos

.PHONY: demo test test-vm lint types imports fuzz fuzz-asan bench notebooks docs captures clean
.DELETE_ON_ERROR:

demo: $(READY)
	@PATH="$(abspath $(BIN)):$$PATH" sh captures/demo.sh

test: lint types imports
	$(BIN)/python -m pytest -q -n 2 $(TESTS)

lint: $(READY)
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

types: $(READY)
	$(BIN)/mypy --strict

imports: $(READY)
	$(BIN)/lint-imports

test-vm: $(READY)
	tests/vm/build.sh .cache/vm $(BIN)/python
	tests/vm/run.sh .cache/vm .cache/vm-out tests/netns

fuzz: $(READY)
	$(BIN)/python -m tests.fuzz --mutants $(MUTANTS) --seed $(SEED)

fuzz-asan: $(READY)
	$(BIN)/python -m tests.fuzz.asan --mutants $(MUTANTS) --seed $(SEED)

bench: $(READY)
	$(BIN)/python benchmarks/decode.py
	$(BIN)/python benchmarks/verify.py
	$(BIN)/python benchmarks/lab.py
	$(BIN)/python benchmarks/control_plane.py
	$(BIN)/python benchmarks/control_plane.py lab
	$(BIN)/python benchmarks/dns.py
	$(BIN)/python benchmarks/mesh.py

notebooks: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[notebook,lab]'
	$(BIN)/jupyter lab --ServerApp.root_dir=notebooks $(if $(filter 0,$(shell id -u)),--allow-root)

docs: $(READY)
	$(BIN)/vxtool columns --markdown > docs/columns.md
	$(BIN)/vxtool checks --markdown > docs/checks.md
	$(BIN)/python -m tests.verify.test_faults

captures: $(READY)
	for script in captures/made/[!_]*.py; do $(BIN)/python $$script || exit 1; done

# The file is newer than everything that decides what is installed: the project's settings and its compiled parts.
$(READY): pyproject.toml $(KERNELS) .ci/packages
	.ci/packages $(PYTHON)
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,lab]'
	touch $@

clean:
	rm -rf $(VENV) .cache build vxtool.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f vxtool/*/*.so vxtool/*/_*.c vxtool/*/_*.html
	find vxtool tests benchmarks captures -name __pycache__ -type d -exec rm -rf {} +

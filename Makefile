# `make test` and `make demo` need no preparation: packaging/provision installs what is missing.
#
#   SYSTEMD=no    leave out what needs to boot a systemd (that needs root)
#   SUITE=trixie  boot another Debian: bookworm has systemd 252, trixie 257
#   FILE=...      what make check runs: a test file or a folder, or several
#   PYTEST=...    further arguments for pytest: make test PYTEST='-k reload -x'
#   WORKERS=N     how many processes run the tests: 4, of which half wait for something
#   ROUNDS=N      how many rounds of random faults make soak plays, and SEED=N which (10,000 take some hours)
#   RELOADS=N     how many reloads in a row follow them
#   N=...         how many inputs make fuzz feeds to each surface; SEED=... makes the same ones again
#   TESTED=yes    make release: CI has passed for this commit, do not run the tests again
#   SUITES=...    what make matrix boots: SUITES='bookworm trixie bookworm-backports sid' for all there is

SYSTEMD ?= yes
SUITE ?= bookworm
SUITES ?= bookworm trixie
WORKERS ?= 4
ROUNDS ?= 10000
RELOADS ?= 1000
N ?= 100000
export SYSTEMD SUITE

PYTHON := .venv/bin/python
TYPED := sdsupervise tests packaging/man packaging/doc/pictures
SPREAD := --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
# The steps of make test before its tests, and the seconds of each.
PHASES := build/phases
TIMED := @PHASES=$(PHASES) packaging/timed

.DEFAULT_GOAL := help

help:
	@echo 'make demo     see what sdsupervise does, on a throw-away machine'
	@echo 'make unit     run the tests that need no process, no root and no systemd: seconds'
	@echo 'make check    run the tests in FILE, and prepare only what they need'
	@echo 'make lint     lint, and check the types'
	@echo 'make test     lint, check the types, run every test, and say where the time went'
	@echo 'make made     make anew what is made from the code: completions, example.toml, json.md, pictures'
	@echo 'make docs     the same, and the tables and sessions in documents for which it boots machines (root)'
	@echo 'make fuzz     say wrong things to every surface, by chance'
	@echo 'make bench    measure, and write packaging/doc/benchmarks.md'
	@echo 'make soak     have random things go wrong while services are reloaded, for hours'
	@echo 'make deb      build the Debian package, in dist/'
	@echo 'make rpm      build the RPM package, in dist/'
	@echo 'make matrix   try the installed Debian package on each systemd, and write packaging/doc/systemd.md'
	@echo 'make release  check that this commit can be released, test it, build the packages, tag it'
	@echo 'make clean    remove what was built here (the Debian root stays in ~/.cache/sdsupervise)'
	@sed -n 's/^#   /    /p' Makefile

demo:
	@packaging/provision demo
	@$(PYTHON) -m tests.demo

unit:
	@packaging/provision tests/unit
	@$(PYTHON) -m pytest tests/unit --quiet --numprocesses 2 --dist loadfile $(PYTEST)

check:
	@test -n '$(FILE)' || { echo 'Name what to run: make check FILE=tests/unit/test_listen.py' >&2; exit 64; }
	@packaging/provision $(FILE)
	@$(PYTHON) -m pytest $(FILE) $(if $(findstring .py,$(FILE)),,$(SPREAD)) $(PYTEST)

test:
	@mkdir -p $(dir $(PHASES)) && rm -f $(PHASES)
	$(TIMED) provision packaging/provision test
	$(TIMED) lint $(PYTHON) -m ruff check .
	$(TIMED) format $(PYTHON) -m ruff format --check .
	$(TIMED) types $(PYTHON) -m mypy --strict $(TYPED)
	PHASES=$(PHASES) $(PYTHON) -m pytest tests $(SPREAD) $(PYTEST)

lint:
	@packaging/provision tests/processes
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy --strict $(TYPED)

# Each program makes the whole text before it opens the file.
made:
	@packaging/provision tests/processes
	$(PYTHON) packaging/doc/pictures/draw.py
	$(PYTHON) -m tests.docs.json_page
	$(PYTHON) -m tests.docs.completion
	@mkdir -p build
	$(PYTHON) -m sdsupervise config --example >build/example.toml
	mv build/example.toml packaging/example.toml

docs: made
	@packaging/provision test
	$(PYTHON) -m tests.docs.systemd_page
	$(PYTHON) -m tests.docs.readme
	$(PYTHON) -m tests.docs.guide

bench:
	@packaging/provision bench
	@$(PYTHON) -m tests.bench --write

soak:
	@packaging/provision test
	$(PYTHON) -m tests.chaos.soak --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED))
	$(PYTHON) -m tests.chaos.soak --reloads $(RELOADS)

fuzz:
	@packaging/provision demo
	@$(PYTHON) -m tests.chaos.fuzz $(N) $(if $(SEED),--seed $(SEED))

deb rpm:
	@packaging/provision packages
	@packaging/build $@

matrix:
	@packaging/provision test
	@$(PYTHON) -m tests.packages.matrix --write $(SUITES)

release:
	@MAKE='$(MAKE)' packaging/release $(if $(TESTED),--tested)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build dist *.egg-info
	find sdsupervise tests -name __pycache__ -prune -exec rm -rf {} +

.PHONY: help demo unit check lint test made docs fuzz bench soak deb rpm matrix release clean

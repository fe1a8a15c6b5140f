# `make test` and `make demo` need nothing prepared: packaging/provision brings what is missing.
#
#   SYSTEMD=no    leave out what needs to boot a systemd (that needs root)
#   SUITE=trixie  boot another Debian: bookworm has systemd 252, trixie 257
#   PYTEST=...    further arguments for pytest: make test PYTEST='-k reload -x'
#   ROUNDS=N      how many rounds of random faults make soak plays, and SEED=N which (10,000 take some hours)
#   RELOADS=N     how many reloads in a row follow them
#   N=...         how many inputs make fuzz feeds to each surface; SEED=... makes the same ones again
#   SUITES=...    what make matrix boots: SUITES='bookworm trixie bookworm-backports sid' for all there is

SYSTEMD ?= yes
SUITE ?= bookworm
SUITES ?= bookworm trixie
ROUNDS ?= 10000
RELOADS ?= 1000
N ?= 100000
export SYSTEMD SUITE

PYTHON := .venv/bin/python
TYPED := sdsupervise tests packaging/man packaging/doc/pictures

.DEFAULT_GOAL := help

help:
	@echo 'make demo     see what sdsupervise does, on a throw-away machine'
	@echo 'make test     lint, check the types, run every test'
	@echo 'make docs     make anew what of the documents is made from the code: pictures, tables, sessions'
	@echo 'make fuzz     say wrong things to every surface, by chance'
	@echo 'make bench    measure'
	@echo 'make soak     have random things go wrong while services are reloaded, for hours'
	@echo 'make deb      build the Debian package, in dist/'
	@echo 'make rpm      build the RPM package, in dist/'
	@echo 'make matrix   try the installed Debian package on each systemd, and print how it went'
	@echo 'make clean    remove what was built here (the Debian root stays in ~/.cache/sdsupervise)'
	@sed -n 's/^#   /    /p' Makefile

demo:
	@packaging/provision demo
	@$(PYTHON) -m tests.demo

test:
	packaging/provision test
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy --strict $(TYPED)
	$(PYTHON) -m pytest tests --numprocesses 2 --dist loadfile $(PYTEST)

# What needs no machine comes first.
docs:
	@packaging/provision test
	$(PYTHON) packaging/doc/pictures/draw.py
	$(PYTHON) -m tests.docs.json_page
	$(PYTHON) -m tests.docs.completion
	$(PYTHON) -m tests.docs.readme
	$(PYTHON) -m tests.docs.guide

bench:
	@packaging/provision bench
	@$(PYTHON) -m tests.bench

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
	@$(PYTHON) -m tests.packages.matrix $(SUITES)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build dist *.egg-info
	find sdsupervise tests -name __pycache__ -prune -exec rm -rf {} +

.PHONY: help demo test docs fuzz bench soak deb rpm matrix clean

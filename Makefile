# Everything here runs from a fresh clone: each target first sets up .venv, again only when pyproject.toml changes.

BIN := .venv/bin
STAMP := .venv/.installed
BENCH_STAMP := .venv/.installed-bench
#: Test processes side by side (more than two cores have: most of them wait), and more words for pytest:
#: `make test ARGS="-k sqlite -x"`.
JOBS ?= 3
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help venv demo test soak check docs bench clean

help:  ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

venv: $(STAMP)  ## Set up .venv

$(STAMP): pyproject.toml scripts/venv.sh
	@scripts/venv.sh dev
	@touch $@

$(BENCH_STAMP): $(STAMP)
	@scripts/venv.sh dev bench
	@touch $@

demo: $(STAMP)  ## Real work on the embedded default: fetched pages and thumbnails, in under a minute
	@$(BIN)/python -m examples.demo

test: $(STAMP)  ## The whole test suite
	@scripts/server.sh redis-server
	@scripts/server.sh rabbitmq-server
	@scripts/moto.sh
	@$(BIN)/pytest -n $(JOBS) --dist worksteal $(ARGS)

soak: $(STAMP)  ## The long forms of the tests that have one, and their figures: an hour
	@scripts/server.sh redis-server
	@scripts/server.sh rabbitmq-server
	@$(BIN)/pytest -m soak $(ARGS)

check: $(STAMP)  ## Lint, formatting, types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/test_project.py

docs: $(STAMP)  ## Run the code in the docs, follow their links
	@$(BIN)/pytest -q tests/docs $(ARGS)

bench: $(BENCH_STAMP)  ## Figures beside other libraries, in the same run: ARGS="--on rabbitmq"
	@scripts/server.sh redis-server
	@scripts/server.sh rabbitmq-server
	@$(BIN)/python -m benchmarks $(ARGS)

clean:  ## Remove .venv and whatever the tools left behind
	rm -rf .venv .venv-moto .ruff_cache .pytest_cache .hypothesis .import_linter_cache .mypy_cache build dist htmlcov .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

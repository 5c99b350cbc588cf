# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/pip --disable-pip-version-check install --quiet

.PHONY: demo firmware-demo test lint types contracts unit docs slow matrix clean
.DEFAULT_GOAL := demo

# torch comes first, at its pin, so that a CPU build is taken where one is offered.
$(STAMP): constraints.txt packages/edge/pyproject.toml packages/edgegraft/pyproject.toml
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(PIP) "$$(grep -i '^torch==' constraints.txt)"
	@$(PIP) -c constraints.txt -e packages/edge -e "packages/edgegraft[dev]"
	@touch $@

demo: $(STAMP)
	@$(BIN)/edgegraft demo

firmware-demo: $(STAMP)
	@$(BIN)/edgegraft demo --firmware

lint: $(STAMP)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --quiet

types: $(STAMP)
	@$(BIN)/mypy

contracts: $(STAMP)
	@$(BIN)/lint-imports

unit: $(STAMP)
	@$(BIN)/pytest -n 2

test: lint types contracts unit

slow: $(STAMP)
	@$(BIN)/pytest -m slow -n 2

matrix: $(STAMP)
	@$(BIN)/pytest -m matrix -n 2

docs: $(STAMP)
	@$(BIN)/sphinx-build -W -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:
	rm -rf $(VENV) docs/_build

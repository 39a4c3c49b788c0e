# Every target does its own set-up. PYTHON chooses the interpreter that .venv is made with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test quick quiet check format clean

demo: $(VENV)/installed
	$(BIN)/edgecifar demo

test: check
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not quiet and not long' --durations 20

quick: check
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow and not quiet and not long'

quiet: $(VENV)/installed
	$(BIN)/python -m pytest -m 'quiet or long'

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info runtime/build runtime/*.egg-info

$(VENV)/installed: setup.cfg runtime/setup.cfg pyproject.toml runtime/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ./runtime --editable '.[dev,lite0]'
	touch $@

# One-line aliases; the work is in scripts/, noxfile.py and example_flows/demo/.
PYTHON ?= python3
PY := .venv/bin/python
NOX := $(PY) -m nox --error-on-missing-interpreters -s

# Targets, as `make help` shows them:
# make venv         make or renew .venv
# make demo         run the flights spec here
# make demo-prefect the same on a real Prefect server
# make demo-airflow the same on a real Airflow scheduler
# make test         lint, types, imports, texts, docs, tests, e2e, isolated
# make lint         style and format
# make types        mypy, strict
# make imports      the direction of imports
# make docs         the documentation, without a warning
# make bench        measurements
# make e2e          tests with a real Airflow and Prefect
# make faults       kills and cuts at every point
# make isolated     the core and each plug-in alone
# make fuzz         every reader against bad inputs
# make soak         random operations and kills for an hour
# make clean        remove what these made, but .venv

.PHONY: help venv demo demo-prefect demo-airflow test lint types imports docs bench e2e faults isolated fuzz soak clean
help:         ; @sed -n 's/^# \(make .*\)/  \1/p' Makefile
venv:         ; @$(PYTHON) scripts/venv.py
demo: venv    ; @$(PY) -m example_flows.demo.here
demo-prefect: venv ; @$(PY) -m example_flows.demo.prefect
demo-airflow: venv ; @$(PY) -m example_flows.demo.airflow
test: venv    ; @$(NOX) lint types imports texts docs tests e2e isolated
lint: venv    ; @$(NOX) lint
types: venv   ; @$(NOX) types
imports: venv ; @$(NOX) imports
docs: venv    ; @$(NOX) docs
bench: venv   ; @$(NOX) bench
e2e: venv     ; @$(NOX) e2e
faults: venv  ; @$(NOX) faults
isolated: venv ; @$(NOX) isolated
fuzz: venv   ; @$(NOX) fuzz
soak: venv   ; @$(NOX) soak
clean:        ; @rm -rf .demo .nox docs/_build dist

# One-line aliases; the work is in scripts/, noxfile.py and example_flows/demo/.
PYTHON ?= python3
PY := .venv/bin/python
NOX := $(PY) -m nox --error-on-missing-interpreters -s

.PHONY: help venv demo demo-prefect demo-airflow test lint types imports docs bench e2e faults isolated fuzz soak clean
help:         ; @sed -n 's/^\([a-z-]*\): .*## /  make \1  \t/p' Makefile
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

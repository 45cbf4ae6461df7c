# Every command a person or CI runs. Needs Python 3.11 or newer, make and a package index; all else goes to .venv.
PYTHON ?= python3
BIN := .venv/bin
EXTRAS := train catboost console kafka s3 mlflow oidc postgres redis
ARGS ?=

.PHONY: demo test check audit attack bench walk gate image image-test services services-status services-stop services-clean clean
NAMES ?=
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

gate: .venv/ready  ## Generate, train, gate, evaluate: the promotion policy on simulated payments
	$(BIN)/python walk/gate_walk.py $(ARGS)

image: .venv/ready  ## Images of the server, by buildah, as root: make image ARGS="--target serving"
	$(BIN)/python -m deploy.image.build $(ARGS)

image-test: .venv/ready .venv-audit/ready  ## Build the image of the server, run it with podman, look at what is in it
	SENTINEL_TEST_REQUIRE=image $(BIN)/pytest tests/deploy/test_image.py tests/deploy/test_image_start.py $(ARGS)
	$(BIN)/python -m deploy.image.known_holes

clean:  ## Remove what make made, and the demo's folder
	rm -rf .venv .venv-audit .sentinel/demo

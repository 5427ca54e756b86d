# Everything below needs Python 3.11 with headers, a C++20 compiler, make and git; the rest comes through pip.
#   make TORCH_INDEX=URL ...   takes torch from an index of your choice (for example one of CPU-only wheels)
#   make PYTHON=PATH ...       uses another Python 3.11

PYTHON ?= python3.11
TORCH_INDEX ?=
EPISODES ?=
MINUTES ?=
FAST ?=
POLICY ?= operator
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
INSTALL_TORCH = echo "installing torch$(if $(TORCH_INDEX), from $(TORCH_INDEX))" && \
	$(PIP) torch $(if $(TORCH_INDEX),--no-deps --index-url $(TORCH_INDEX))
ROBOT := robot,prompt,franka,sim
VLA := .venv-vla
VLA_NEEDS := transformers tokenizers draccus einops gymnasium termcolor requests pillow jsonlines grpcio protobuf pytest pytest-timeout
VLA_PIP := $(VLA)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --constraint constraints-vla.txt
LEARNER := learner,export
ARTIFACT := artifacts/peg_in_hole
TINY_VLA := artifacts/tiny_smolvla
DEMONSTRATIONS := runs/peg_in_hole/demonstrations
CHECKPOINT := runs/peg_in_hole/checkpoint
START := artifacts/peg_in_hole_start
START_RUNS := runs/peg_in_hole_start
WARM_UP := configs/cpu/peg_in_hole.yaml
SERVED := configs/cpu/peg_in_hole_served.yaml
NATIVE := $(wildcard hw/native/*.cpp hw/native/*.hpp)
TEST_FOLDERS := tests:tests/hw/native:tests/hw/emulator:bench
BUILD_FILES := pyproject.toml constraints.txt CMakeLists.txt $(NATIVE)

.PHONY: polymetis-messages help venv learner demo demo-policy demo-learn demo-learn-start test test-vla tiny-vla check proof build bench soak clean
.DEFAULT_GOAL := help

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

venv: $(VENV)/robot.stamp ## install the robot side (no torch) into .venv

learner: $(VENV)/learner.stamp ## install robot side, learner and export (with torch) into .venv

demo: $(VENV)/robot.stamp ## run the committed policy on the simulated arm: 20 episodes and a report
	$(BIN)/poco-runtime --robot sim --policy $(ARTIFACT) --episodes $(or $(EPISODES),20)

demo-policy: $(VENV)/learner.stamp ## make that policy again: demonstrations, behaviour cloning, evaluation, export
	rm -rf $(DEMONSTRATIONS) $(CHECKPOINT) $(ARTIFACT)
	$(BIN)/poco-learner make-data --variant easy --noise 0.2 --bias-m 0 --episodes 400 --out $(DEMONSTRATIONS)
	$(BIN)/poco-learner clone --data $(DEMONSTRATIONS) --out $(CHECKPOINT) --steps 25000 --hidden-sizes 256 256 256
	$(BIN)/poco-learner evaluate --checkpoint $(CHECKPOINT) --variant easy --episodes 100
	$(BIN)/poco-learner evaluate --checkpoint $(CHECKPOINT) --variant hard --episodes 100
	$(BIN)/poco-export policy $(CHECKPOINT) --out $(ARTIFACT)

demo-learn: $(VENV)/learner.stamp ## watch the simulated arm get better beside a learner, a quarter of an hour (FAST=1: half), and draw it
	$(BIN)/python -m poco.runtime.demo_learn --start $(START) --recipe $(SERVED) --clearance-mm 1.2 $(if $(FAST),--fast) \
		$(if $(MINUTES),--minutes $(MINUTES)) $(if $(EPISODES),--episodes $(EPISODES))

demo-learn-start: $(VENV)/learner.stamp ## make again what demo-learn begins with: demonstrations, cloned policy, warmed-up critic
	rm -rf $(START) $(START_RUNS)
	$(BIN)/poco-learner make-data --variant hard --noise 0.5 --bias-m 0.005 --no-only-successes --episodes 100 --out $(START)/demonstrations
	$(BIN)/poco-learner clone --data $(START)/demonstrations --out $(START_RUNS)/clone --steps 4000
	$(BIN)/poco-learner evaluate --checkpoint $(START_RUNS)/clone --variant hard --episodes 100
	$(BIN)/poco-export policy $(START_RUNS)/clone --out $(START)/policy
	$(BIN)/poco-learner train --config $(WARM_UP) --data $(START)/demonstrations --start $(START_RUNS)/clone --out $(START_RUNS)/warm \
		--steps 1000
	mkdir -p $(START)/run/states
	cp "$$(ls $(START_RUNS)/warm/states/*.safetensors | tail -n 1)" $(START)/run/states/

test: check ## install everything, then format, lint, types and tests; what fails beside others is repeated alone
	$(BIN)/pytest -n $(WORKERS) --dist loadfile || \
		{ [ $$? -eq 1 ] && echo "repeating alone what failed beside others" && \
		$(BIN)/pytest --last-failed --last-failed-no-failures none; }

check: $(VENV)/test.stamp ## format, lint and types only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)
	$(BIN)/mypy
	MYPYPATH=$(TEST_FOLDERS) $(BIN)/mypy --explicit-package-bases --exclude conftest.py tests bench .ci/installed.py

test-vla: $(VLA)/test.stamp ## export tiny LeRobot checkpoints and run them, in an environment of its own (.venv-vla, 2 GB)
	$(VLA)/bin/pytest -o addopts="--import-mode=importlib -ra --strict-markers --durations=10 --timeout=600" tests/vla

tiny-vla: $(VLA)/test.stamp ## make the committed artifact of a tiny SmolVLA again
	rm -rf $(TINY_VLA)
	PYTHONPATH=tests $(VLA)/bin/python -m vla.tiny_artifact smolvla $(TINY_VLA)

proof: $(VENV)/test.stamp ## the long proofs: 100,000 chunks and seams, 100 episodes on both paths, an arm that gets better, and more
	$(BIN)/pytest -m proof --timeout 3600 -s

build: ## build sdist and wheel, install each in a clean environment without torch and use it
	PYTHON=$(PYTHON) .ci/distributions

bench: $(VENV)/test.stamp ## run the benchmarks; each prints percentiles and writes JSON
	$(BIN)/python bench/step.py
	$(BIN)/python bench/motion.py
	$(BIN)/python bench/learner.py
	$(BIN)/poco-bench inference --policy $(ARTIFACT) --torch bench/torch_eager.py
	$(BIN)/poco-bench observe-to-chunk
	$(BIN)/poco-bench franka
	$(BIN)/poco-bench loop

soak: $(VENV)/robot.stamp ## run the task for MINUTES=30 with POLICY=operator and say whether anything grows, slows down or stops
	$(BIN)/python -m poco.runtime.soak --minutes $(or $(MINUTES),30) --policy $(POLICY)

polymetis-messages: ## make the Python messages of hw/polymetis/polymetis.proto again, in an environment of their own
	$(PYTHON) -m venv build/protoc && build/protoc/bin/pip install --quiet grpcio-tools==1.85.1
	build/protoc/bin/python -m grpc_tools.protoc -I hw/polymetis --python_out=hw/polymetis --pyi_out=hw/polymetis polymetis.proto

clean: ## remove .venv, builds and caches; keeps runs/
	rm -rf $(VENV) $(VLA) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/python.stamp:
	@PYTHON=$(PYTHON) .ci/prerequisites
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/robot.stamp: $(VENV)/python.stamp $(BUILD_FILES)
	@echo "installing the robot side (no torch) and compiling the native core"
	@$(PIP) --editable .[$(ROBOT)]
	@touch $@

$(VENV)/learner.stamp: $(VENV)/python.stamp $(BUILD_FILES)
	@$(INSTALL_TORCH)
	@echo "installing robot side, learner and export and compiling the native core"
	@$(PIP) --editable .[$(ROBOT),$(LEARNER)]
	@touch $(VENV)/robot.stamp $@

$(VENV)/test.stamp: $(VENV)/python.stamp $(BUILD_FILES)
	@$(INSTALL_TORCH)
	@echo "installing everything and compiling the native core"
	@$(PIP) --editable .[$(ROBOT),$(LEARNER),polymetis,ogbench,datasets,gamepad,spacemouse,test]
	@touch $(VENV)/robot.stamp $(VENV)/learner.stamp $@

$(VLA)/test.stamp: $(BUILD_FILES) constraints-vla.txt .ci/older_syntax.py
	@PYTHON=$(PYTHON) .ci/prerequisites
	@echo "making $(VLA)"
	@$(PYTHON) -m venv $(VLA)
	@echo "installing torch$(if $(TORCH_INDEX), from $(TORCH_INDEX))"
	@$(VLA_PIP) torch $(if $(TORCH_INDEX),--no-deps --index-url $(TORCH_INDEX))
	@echo "installing robot side, learner, export and what LeRobot's policies compute with"
	@$(VLA_PIP) --editable .[$(ROBOT),$(LEARNER)] $(VLA_NEEDS)
	@$(VLA_PIP) --no-deps --ignore-requires-python lerobot diffusers
	@$(VLA_PIP) --no-deps tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs
	@$(VLA)/bin/python .ci/older_syntax.py $$($(VLA)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/lerobot
	@touch $@

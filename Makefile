# make demo    from nothing to an answer in a few minutes: simulated EEG, or DATA=folder, or DATA=eegbci
# make test    everything that must hold
# make check   linters;  make style   lets them repair
# make test-versions  saved and loaded under the oldest and the newest transformers
# make fuzz    100,000 odd arrays, names, units and rates through the feature extractor
# make kill-test  a preparation of data killed 20 times, and what comes of it
# make bench   speed, memory, scaling and storage; make bench-patch-models the cost of other models
# make pretrain  hub/neuript-NAME from its data (DATA=folder, NAME=tiny): trained, evaluated, with its card; hours on a CPU
# make task-weights  hub/neuript-tiny-TASK, fine-tuned from hub/neuript-tiny (DATA=folder)
# make results the README's tables of fine-tuning on real tasks (DATA=folder), hours on a CPU

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test fuzz kill-test test-versions .venv-newest/installed bench bench-patch-models check style pretrain task-weights results

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[demo,dev]'
	touch $@

demo: .venv/installed
	$(BIN)/python examples/demo.py $(if $(DATA),--data $(DATA)) $(if $(MONTAGE),--montage $(MONTAGE))

# The network is used once, for transformers' own tests of a model; without them they are skipped.
test: .venv/installed
	-$(BIN)/python tests/fetch_common_tests.py
	$(BIN)/python -m pytest

fuzz: .venv/installed
	NEURIPT_FUZZ_CASES=100000 $(BIN)/python -m pytest tests/test_fuzz.py

kill-test: .venv/installed
	NEURIPT_KILLS=20 $(BIN)/python -m pytest tests/test_preparation.py -k killed

# 5.17 is the oldest that pyproject.toml promises; it wants huggingface_hub below 2. The newest is looked for each time.
.venv-floor/installed .venv-newest/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(@D)
	grep '^torch==' constraints.txt > $(@D)/torch.txt
	$(@D)/bin/pip install --quiet --constraint $(@D)/torch.txt --editable '.[demo,dev]' \
		$(if $(findstring floor,$@),'transformers==5.17.0' 'huggingface_hub<2',--upgrade transformers)
	touch $@

# Each run of test_versions.py reads what the runs before it have left.
test-versions: .venv-floor/installed .venv-newest/installed
	for version in floor newest floor; do \
		NEURIPT_VERSIONS=runs/versions .venv-$$version/bin/python -m pytest tests/test_versions.py || exit 1; \
	done
	for version in floor newest; do \
		.venv-$$version/bin/python tests/fetch_common_tests.py; \
		.venv-$$version/bin/python -m pytest tests/test_common.py tests/test_modeling.py tests/test_hub.py || exit 1; \
	done

bench: .venv/installed
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/storage.py
	$(BIN)/python benchmarks/recordings.py

# braindecode and this package do not fit into one environment.
.venv-braindecode/installed: constraints.txt
	$(PYTHON) -m venv .venv-braindecode
	.venv-braindecode/bin/pip install --quiet --constraint constraints.txt torch
	.venv-braindecode/bin/pip install --quiet --constraint constraints.txt braindecode==1.8.1
	touch $@

bench-patch-models: .venv-braindecode/installed
	.venv-braindecode/bin/python benchmarks/patch_models.py

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

style: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Goes on where it was stopped. What travels are the files of a checkpoint, without those that only training needs.
NAME ?= tiny
# Settings of the trainings one after the other, each from the weights of the one before it.
PARTS = $(basename $(notdir $(sort $(wildcard $(addprefix research/settings/,$(NAME).yaml $(NAME)_continued*.yaml)))))
FOLDER = hub/neuript-$(NAME)
FINDINGS = research/results/neuript-$(NAME)

pretrain: .venv/installed
	$(BIN)/python research/prepare_corpus.py --data $(DATA) --num_proc 2
	for part in $(PARTS); do \
		$(BIN)/python examples/pretrain.py research/settings/$$part.yaml --resume_from_checkpoint true || exit 1; \
	done
	mkdir -p $(FOLDER)
	cp $(foreach ending,json safetensors py,runs/$(lastword $(PARTS))/*.$(ending)) $(FOLDER)
	$(BIN)/python research/learning_curve.py --runs $(addprefix runs/,$(PARTS)) --output $(FINDINGS)_training
	$(BIN)/python research/evaluate_features.py --model $(FOLDER) --data $(DATA)/manifest.csv --output $(FINDINGS)_features.json
	$(BIN)/python research/evaluate_reconstruction.py --model $(FOLDER) --data $(DATA)/manifest.csv \
		--output $(FINDINGS)_reconstruction.json
	$(BIN)/python examples/write_model_card.py --folder $(FOLDER) --features $(FINDINGS)_features.json \
		--reconstruction $(FINDINGS)_reconstruction.json

# Weights that tell a task's classes: hub/neuript-tiny-TASK.
# All are trained before the first is put into hub/, so that each names a commit and not a changed tree.
TASKS := $(basename $(notdir $(wildcard research/settings/tasks/*.yaml)))
task-weights: .venv/installed
	for task in $(TASKS); do \
		$(BIN)/python examples/finetune.py research/settings/tasks/$$task.yaml --data $(DATA)/manifest.csv || exit 1; \
	done
	for task in $(TASKS); do \
		mkdir -p hub/neuript-tiny-$$task; \
		cp $(foreach ending,json safetensors py,runs/neuript-tiny-$$task/*.$(ending)) hub/neuript-tiny-$$task; \
		$(BIN)/python examples/write_model_card.py --folder hub/neuript-tiny-$$task || exit 1; \
	done

results: .venv/installed
	$(BIN)/python research/compare_pretraining.py research/settings/comparison.yaml --data $(DATA)/manifest.csv

# make demo       a few minutes from nothing to an answer: simulated EEG, or DATA=folder, or DATA=eegbci
# make test       all tests;  make test-fast  those that take under 2 minutes together
# make check      linters;  make style  lets them repair what they can
# make hub        makes the links of hub/ to the package's code anew, or copies on systems without links
# make dist       the wheel, tested in an empty environment
# make figures    the pictures of results;  make cards  the cards of hub/, from the files there and from research/results
# make test-versions   saves and loads with the oldest and the newest transformers
# make fuzz       100,000 odd arrays, names, units and rates through the feature extractor
# make kill-test  kills a preparation of data, a run over recordings and a training many times, and resumes them
# make docs       the documentation site, docs/_build/html, in an environment of its own
# make test-integrations  the model of braindecode and the pipelines of MOABB, in environments of their own
# make space      the page in the browser (docs/space.md);  make test-space  its tests, in an environment of its own
# make bench      speed, memory, scaling and storage;  make bench-patch-models  the cost of other models
# make pretrain   hub/neuript-NAME from its data (DATA=folder, NAME=tiny): trained, evaluated, with its card
# make task-weights    hub/neuript-tiny-TASK, fine-tuned from hub/neuript-tiny (DATA=folder)
# make results    fine-tuning from pre-trained and from random weights on real tasks (DATA=folder); hours on a CPU

help:
	@sed -n 's/^# make/make/p' Makefile

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo docs test test-fast test-integrations test-braindecode test-moabb space test-space check style hub dist figures cards test-versions fuzz kill-test bench bench-patch-models \
	pretrain task-weights results .venv-newest/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[demo,dev]'
	touch $@

demo: .venv/installed
	$(BIN)/python examples/demo.py $(if $(DATA),--data $(DATA)) $(if $(MONTAGE),--montage $(MONTAGE))

# Two files of tests at a time, each on one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The network is used once, for transformers' own tests of a model; without them they are skipped.
test: .venv/installed
	-$(BIN)/python tests/fetch_common_tests.py
	$(PYTEST)

test-fast: .venv/installed
	$(PYTEST) -m "not slow"

hub: .venv/installed
	$(BIN)/python -m neuript_hf.checkpoints.links hub/*

dist: .venv/installed
	rm -rf dist
	$(BIN)/python -m build
	NEURIPT_WHEEL=$$(echo dist/*.whl) $(BIN)/python -m pytest tests/test_package.py

figures: .venv/installed
	$(BIN)/python research/figures.py

cards: .venv/installed
	for name in $(notdir $(wildcard hub/*)); do \
		$(BIN)/python -m neuript_hf.checkpoints.card --folder hub/$$name $$(for kind in features reconstruction; do \
			file=research/results/$${name}_$$kind.json; if [ -f $$file ]; then echo --$$kind $$file; fi; done) || exit 1; \
	done

fuzz: .venv/installed
	NEURIPT_FUZZ_CASES=100000 $(BIN)/python -m pytest tests/test_fuzz.py

kill-test: .venv/installed
	NEURIPT_KILLS=20 $(BIN)/python -m pytest tests/test_preparation.py -k killed
	NEURIPT_KILLS=5 NEURIPT_RECORDINGS=1000 $(BIN)/python -m pytest tests/test_derivatives.py tests/test_cluster.py \
		-k "killed or queued" -s

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
		.venv-$$version/bin/python -m pytest tests/test_common.py tests/test_modeling.py tests/test_hub.py tests/test_hub_http.py || exit 1; \
	done

bench: .venv/installed
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/storage.py
	$(BIN)/python benchmarks/recordings.py

# braindecode and OpenEEG-Bench beside this package; not in .venv, since their requirements are many. torchaudio's
# compiled part loads only beside a CUDA build of torch, and braindecode does without.
.venv-braindecode/installed: constraints.txt
	$(PYTHON) -m venv .venv-braindecode
	.venv-braindecode/bin/pip install --quiet --constraint constraints.txt torch
	.venv-braindecode/bin/pip install --quiet --constraint constraints.txt braindecode==1.8.1 open-eeg-bench==0.6.0 \
		pytest --editable .
	rm -f .venv-braindecode/lib/python3*/site-packages/torchaudio/lib/*.so
	touch $@

test-braindecode: .venv-braindecode/installed
	OMP_NUM_THREADS=1 .venv-braindecode/bin/python -m pytest tests/test_braindecode.py

# MOABB beside this package; not in .venv, since its requirements are many, and want an older python-dateutil.
.venv-moabb/installed: constraints.txt
	$(PYTHON) -m venv .venv-moabb
	grep -v '^python-dateutil==' constraints.txt > .venv-moabb/constraints.txt
	.venv-moabb/bin/pip install --quiet --constraint .venv-moabb/constraints.txt torch
	.venv-moabb/bin/pip install --quiet --constraint .venv-moabb/constraints.txt moabb==1.7.2 pytest --editable .
	touch $@

test-moabb: .venv-moabb/installed
	OMP_NUM_THREADS=1 .venv-moabb/bin/python -m pytest tests/test_moabb.py

test-integrations: test-braindecode test-moabb

# The Space beside this package; not in .venv, since Gradio wants an older pillow.
.venv-space/installed: constraints.txt space/requirements.txt
	$(PYTHON) -m venv .venv-space
	grep -v '^pillow==' constraints.txt > .venv-space/constraints.txt
	.venv-space/bin/pip install --quiet --constraint .venv-space/constraints.txt torch
	.venv-space/bin/pip install --quiet --constraint .venv-space/constraints.txt -r space/requirements.txt \
		playwright==1.61.0 pytest --editable .
	touch $@

space: .venv-space/installed
	.venv-space/bin/python space/app.py

test-space: .venv-space/installed
	OMP_NUM_THREADS=1 .venv-space/bin/python -m pytest tests/test_space.py

bench-patch-models: .venv-braindecode/installed
	.venv-braindecode/bin/python benchmarks/patch_models.py

# Sphinx beside this package; not in .venv, since nothing else needs it. Warnings are errors, links without a target too.
.venv-docs/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip install --quiet --constraint constraints.txt torch
	.venv-docs/bin/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

# Everything anew: what an example or a page no longer makes would otherwise stay.
docs: .venv-docs/installed
	rm -rf docs/_build docs/generated
	OMP_NUM_THREADS=1 .venv-docs/bin/sphinx-build --quiet --fail-on-warning --keep-going -c docs -d docs/_build/doctrees . docs/_build/html

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

style: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Resumes where it was stopped. Of a run's folder, hub/ gets the checkpoint's files, not those of its training.
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
	cp $(foreach ending,json safetensors,runs/$(lastword $(PARTS))/*.$(ending)) $(FOLDER)
	$(BIN)/python research/learning_curve.py --runs $(addprefix runs/,$(PARTS)) --output $(FINDINGS)_training
	$(BIN)/python research/evaluate_features.py --model $(FOLDER) --data $(DATA)/manifest.csv --output $(FINDINGS)_features.json
	$(BIN)/python research/evaluate_reconstruction.py --model $(FOLDER) --data $(DATA)/manifest.csv \
		--output $(FINDINGS)_reconstruction.json
	$(MAKE) hub cards

# Weights that distinguish the classes of a task: hub/neuript-tiny-TASK.
# All are trained before the first is put into hub/, so that each names a commit and not a changed tree.
TASKS := $(basename $(notdir $(wildcard research/settings/tasks/*.yaml)))
task-weights: .venv/installed
	for task in $(TASKS); do \
		$(BIN)/python examples/finetune.py research/settings/tasks/$$task.yaml --data $(DATA)/manifest.csv || exit 1; \
	done
	for task in $(TASKS); do \
		mkdir -p hub/neuript-tiny-$$task; \
		cp $(foreach ending,json safetensors,runs/neuript-tiny-$$task/*.$(ending)) hub/neuript-tiny-$$task || exit 1; \
	done
	$(MAKE) hub cards

results: .venv/installed
	$(BIN)/python research/compare_pretraining.py research/settings/comparison.yaml --data $(DATA)/manifest.csv

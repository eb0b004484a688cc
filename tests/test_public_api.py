"""The public names, their documentation, and the direction of the imports."""

import ast
import importlib
import inspect
from importlib.metadata import version
from pathlib import Path

import pytest

import neuript_hf


PACKAGE = Path(neuript_hf.__file__).parent
TRAVELLING = [
    "array_files",
    "blockwise",
    "channel_names",
    "channels",
    "digitised",
    "embeddings",
    "file_headers",
    "filtering",
    "interpolation",
    "losses",
    "outputs",
    "pooling",
    "recordings",
    "signal_quality",
    "token_basis",
    "token_masks",
    "configuration_neuript",
    "electrodes",
    "feature_extraction_neuript",
    "modeling_neuript",
    "nets",
    "pipeline_neuript",
]
# In the order of the data: a module imports only from lines above its own.
ORDER = [
    {"nets", "configuration_neuript", "token_masks", "losses", "interpolation", "outputs"},
    {"blockwise", "file_headers", "filtering"},
    {"channel_names", "signal_quality", "array_files"},
    {"electrodes", "channels", "pooling", "token_basis"},
    {"digitised", "recordings"},
    {"feature_extraction_neuript", "embeddings", "masking", "fillers", "spectral_target", "simulation", "metrics"},
    {"modeling_neuript"},
    {"pipeline_neuript", "data_collator", "data", "baselines", "eegnet", "shards", "optimization"},
    {"trainer", "checkpoint", "probing", "preparation", "recipes", "monitoring", "augmentation", "training_record"},
    {"__init__", "__main__"},
]
MODULES = sorted(set.union(*ORDER))


def imports_of(module):
    """Modules of this package that a module imports, and all others."""
    own, others = set(), set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom):
            (own if node.level else others).add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Import):
            others |= {name.name.split(".")[0] for name in node.names}
    return own, others


def test_names():
    promised = (
        "NeurIPTConfig NeurIPTModel NeurIPTForPreTraining NeurIPTForSequenceClassification NeurIPTFeatureExtractor "
        "DataCollatorForAmplitudeAwareMasking DataCollatorForEEG EEGPipeline NeurIPTTrainer load_recordings EEGMetric "
        "verify"
    )
    assert set(promised.split()) <= set(neuript_hf.__all__)
    assert all(getattr(neuript_hf, name) for name in neuript_hf.__all__)


def test_version():
    assert neuript_hf.__version__ == version("neuript_hf")


def test_no_module_is_forgotten_here():
    assert MODULES == sorted(path.stem for path in PACKAGE.glob("*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    level = next(number for number, modules in enumerate(ORDER) if module in modules)
    own, others = imports_of(module)
    assert own <= set.union(set(), *ORDER[:level])
    assert "neuript_hf" not in others


@pytest.mark.parametrize("module", TRAVELLING)
def test_travelling_files_need_only_each_other(module):
    """They are copied beside weights: what they import of ours must travel too, and by relative import."""
    own, _ = imports_of(module)
    assert own <= set(TRAVELLING)


def test_the_model_sees_tensors_only():
    files = {"blockwise", "configuration_neuript", "embeddings", "interpolation", "losses", "pooling"}
    files |= {"outputs", "token_basis", "token_masks"}
    assert imports_of("modeling_neuript")[0] == files
    for module in files | {"modeling_neuript"}:
        assert not {"mne", "numpy"} & imports_of(module)[1]


@pytest.mark.parametrize("module", [module for module in MODULES if module != "__init__"])
def test_public_functions_are_documented_and_typed(module):
    loaded = importlib.import_module(f"neuript_hf.{module}")
    for name in loaded.__all__:
        thing = getattr(loaded, name)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        assert inspect.getdoc(thing), name
        if inspect.isfunction(thing):
            signature = inspect.signature(thing)
            assert signature.return_annotation is not inspect.Signature.empty, name
            assert all(
                p.annotation is not inspect.Parameter.empty
                for p in signature.parameters.values()
                if p.kind is not p.VAR_KEYWORD
            )

"""The public names, their documentation, and where imports may point."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import neuript_hf


PACKAGE = Path(neuript_hf.__file__).parent
MODULES = sorted(set(PACKAGE.rglob("*.py")) - {PACKAGE / "__init__.py", PACKAGE / "__main__.py"})
TRAVELLING = [path for path in MODULES if path.parent == PACKAGE]
# What each folder may import beside itself and the root.
FOLDERS = {
    "formats": set(),
    "data": {"formats"},
    "training": {"data", "checkpoints", "evaluation"},
    "evaluation": {"data", "checkpoints"},
    "checkpoints": {"data"},
    "explain": {"data", "evaluation"},
    "integrations": {"data", "training", "evaluation", "checkpoints", "formats"},
}
PROGRAMS = {"benchmarks", "conversion", "examples", "research"}


def by_path(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.relative_to(PACKAGE.parent).as_posix())


def imports_of(path):
    """Of each import: its node, and the place in the package (a tuple such as `("data", "shards")`) or a name."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node, name.name) for name in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.append((node, node.module))
        elif isinstance(node, ast.ImportFrom):
            folder = path.relative_to(PACKAGE).parts[: -node.level]
            modules = [node.module] if node.module else [name.name for name in node.names]
            found += [(node, (*folder, *module.split("."))) for module in modules]
    return found


def guarded_imports(path):
    """Imports inside a function, in a `try` that catches ImportError."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    attempts = [node for function in functions for node in ast.walk(function) if isinstance(node, ast.Try)]
    return {
        node.lineno
        for attempt in attempts
        if any(getattr(handler.type, "id", None) == "ImportError" for handler in attempt.handlers)
        for statement in attempt.body
        for node in ast.walk(statement)
    }


def test_names():
    promised = (
        "NeurIPTConfig NeurIPTModel NeurIPTForPreTraining NeurIPTForSequenceClassification NeurIPTFeatureExtractor "
        "DataCollatorForAmplitudeAwareMasking DataCollatorForEEG EEGPipeline NeurIPTTrainer load_recordings EEGMetric "
        "task_config verify"
    )
    assert set(promised.split()) <= set(neuript_hf.__all__)
    assert all(getattr(neuript_hf, name) for name in neuript_hf.__all__)


@by_path(TRAVELLING)
def test_a_travelling_file_needs_only_its_siblings(path):
    """transformers copies it flat beside the weights, with everything that it imports relatively."""
    siblings = {(sibling.stem,) for sibling in TRAVELLING}
    assert {place for _, place in imports_of(path) if isinstance(place, tuple)} <= siblings
    ours = {node.lineno for node, place in imports_of(path) if str(place).partition(".")[0] == "neuript_hf"}
    assert ours <= guarded_imports(path)


@by_path([path for path in MODULES if path not in TRAVELLING])
def test_a_folder_imports_in_one_direction(path):
    folder = path.relative_to(PACKAGE).parts[0]
    allowed = FOLDERS[folder] | {folder} | {root.stem for root in TRAVELLING}
    for _, place in imports_of(path):
        assert place[0] in allowed if isinstance(place, tuple) else place.partition(".")[0] != "neuript_hf"


@by_path(sorted(PACKAGE.rglob("*.py")))
def test_the_package_imports_no_program_of_the_repository(path):
    assert not PROGRAMS & {place.partition(".")[0] for _, place in imports_of(path) if isinstance(place, str)}


def test_the_model_sees_tensors_only():
    """A checkpoint runs where only torch and transformers are installed."""
    needed, waiting = set(), [PACKAGE / "modeling_neuript.py"]
    while waiting:
        path = waiting.pop()
        needed.add(path)
        places = [place for _, place in imports_of(path)]
        assert not {"mne", "numpy"} & {place.partition(".")[0] for place in places if isinstance(place, str)}, path
        own = {PACKAGE / f"{place[0]}.py" for place in places if isinstance(place, tuple)}
        waiting += own - needed


@by_path(MODULES)
def test_public_functions_are_documented_and_typed(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    try:
        loaded = importlib.import_module(".".join(part for part in parts if part != "__init__"))
    except ImportError as error:
        if "integrations" not in parts:
            raise
        pytest.skip(str(error))  # another library's model, which is tested beside that library
    for name in getattr(loaded, "__all__", ()):
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

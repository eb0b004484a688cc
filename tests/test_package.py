"""What users install: a package that imports quickly, and a wheel that holds it alone and works by itself."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

import neuript_hf


WHEEL = os.environ.get("NEURIPT_WHEEL")
ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "neuript_hf"
PROGRAM = """
import sys
from pathlib import Path
import torch
import neuript_hf
from neuript_hf.__main__ import main
from neuript_hf.checkpoints.links import code_files

assert Path(neuript_hf.__file__).is_relative_to(sys.prefix), neuript_hf.__file__
config = neuript_hf.NeurIPTConfig.tiny()
model = neuript_hf.NeurIPTModel(config).eval()
extractor = neuript_hf.NeurIPTFeatureExtractor(montage=["C3", "Cz", "C4"])
signal = 10 * torch.randn(3, 1000).numpy()
batch = extractor(signal, sampling_rate=250, channel_names=extractor.montage, unit="uV", return_tensors="pt")
assert model(**batch).pooler_output.shape == (1, 7 * 5 * config.hidden_size)
neuript_hf.save_checkpoint(model, extractor, "saved")
assert main(["export-hub", "saved", "exported"]) == 0
assert Path("exported/README.md").is_file() and code_files()
"""


IMPORT = """
import sys, time
from transformers import AutoFeatureExtractor, PreTrainedModel
from transformers.pipelines.base import ChunkPipeline
before, start = set(sys.modules), time.process_time()
import neuript_hf
print(time.process_time() - start, *sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""


def test_import_is_light():
    """Heavy libraries wait until a name needs them. CPU time is measured, so a busy machine makes no difference."""
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    seconds, *modules = done.stdout.split()
    assert not {"accelerate", "datasets", "evaluate", "matplotlib", "pandas", "pyarrow", "sklearn"} & set(modules)
    assert float(seconds) < 2


def test_every_public_name_is_found():
    assert len(neuript_hf.__all__) == len(set(neuript_hf.__all__)) and set(neuript_hf.__all__) <= set(dir(neuript_hf))
    for name in neuript_hf.__all__:
        assert getattr(neuript_hf, name).__name__ == name
    with pytest.raises(AttributeError, match="NeurIPTForEverything"):
        neuript_hf.NeurIPTForEverything  # noqa: B018


def test_extras_have_their_real_names():
    """Whatever errors and pages tell people to install is there."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pages = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *PACKAGE.rglob("*.py"),
        *(ROOT / "examples").glob("*.py"),
    ]
    named = {
        extra.strip(): path.name
        for path in pages
        for names in re.findall(r"(?:neuript_hf|'\.)\[([a-z, ]+)\]", path.read_text(encoding="utf-8"))
        for extra in names.split(",")
    }
    assert "peft" in named and {name: page for name, page in named.items() if name not in extras} == {}


def test_what_is_claimed_beside_peers_has_its_test():
    named = re.findall(r"`(test_\w+)::(test_\w+)`", (ROOT / "docs" / "peers.md").read_text(encoding="utf-8"))
    assert len(named) > 25
    for file, test in named:
        assert f"def {test}(" in (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8"), f"{file}::{test}"


def test_how_to_cite():
    """CITATION.cff names the version, and the paper as the cards do."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == neuript_hf.__version__
    paper = citation["preferred-citation"]
    card = " ".join((PACKAGE / "checkpoints" / "card_template.md").read_text(encoding="utf-8").split())
    authors = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    assert f"author = {{{authors}}}" in card
    for field in ("title", "collection-title"):
        assert f"= {{{paper[field]}}}" in card


@pytest.fixture(scope="module")
def wheel():
    if WHEEL is None:
        pytest.skip("`make dist` builds the wheel and sets NEURIPT_WHEEL")
    return Path(WHEEL).resolve()


def test_the_wheel_has_this_package_alone(wheel):
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    ours = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    endings = {".py", ".pyi", ".toml", ".md", ".typed"}
    files = (path for path in PACKAGE.rglob("*") if path.suffix in endings)
    assert ours == {path.relative_to(PACKAGE.parent).as_posix() for path in files}


def test_it_works_in_an_environment_of_its_own(wheel, tmp_path):
    """The dependencies are those of this environment, the package is not."""
    venv.create(tmp_path / "environment", with_pip=False)
    scripts = tmp_path / "environment" / ("Scripts" if os.name == "nt" else "bin")
    run = {"capture_output": True, "text": True, "cwd": tmp_path}
    pip = [sys.executable, "-m", "pip", "--python", scripts / "python", "install", "--no-deps", "--no-index", wheel]
    installed = subprocess.run(pip, **run)
    assert installed.returncode == 0, installed.stderr
    place = next((tmp_path / "environment").rglob("site-packages"))
    (place / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    helped = subprocess.run([scripts / "neuript", "--help"], **run)
    assert helped.returncode == 0 and "export-hub" in helped.stdout, helped.stderr
    worked = subprocess.run([scripts / "python", "-c", PROGRAM], **run)
    assert worked.returncode == 0, worked.stderr

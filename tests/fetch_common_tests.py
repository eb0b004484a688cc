"""
Fetches the tests that transformers runs on its own models, for test_common.py; needs the network once.

pip downloads the source distribution of the installed transformers, and its `tests` folder is unpacked into pytest's
cache. Nothing of it is kept in the repository.

    python tests/fetch_common_tests.py
"""

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import transformers


# The folder's name in the source distribution is `tests`, too common for a name to import by.
PACKAGE = "transformers_common_tests"
CACHE = Path(__file__).resolve().parents[1] / ".pytest_cache" / f"transformers-{transformers.__version__}"
# Modules that the common tests import, but the source distribution leaves out. They serve text generation, export and
# several processes, none of which is tested here; the last is the list of values that ConfigTester sets.
STUBS = {
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "distributed_testing_utils.py": "def run_distributed(*args, **kwargs):\n    raise NotImplementedError\n",
    "utils/test_configuration_utils.py": (
        'config_common_kwargs = {"return_dict": False, "output_hidden_states": True, "dtype": "float16", '
        '"chunk_size_feed_forward": 5, "architectures": ["A"], "id2label": {0: "a"}, "label2id": {"a": 0}, '
        '"problem_type": "regression"}\n'
    ),
}


def fetch() -> None:
    """Puts the common tests of the installed transformers into the cache."""
    CACHE.parent.mkdir(exist_ok=True)
    requirement = f"transformers=={transformers.__version__}"
    with tempfile.TemporaryDirectory(dir=CACHE.parent) as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--retries", "1", "--no-deps"]
        command += ["--no-binary", "transformers", "--dest", temporary, requirement]
        subprocess.run(command, check=True)
        (archive,) = Path(temporary).glob("*.tar.gz")
        folder = Path(temporary) / "unpacked"
        with tarfile.open(archive) as source:
            for member in source.getmembers():
                _, _, name = member.name.partition("/tests/")
                if name.endswith(".py"):
                    source.extract(member.replace(name=name), folder / PACKAGE, filter="data")
        for name, text in STUBS.items():
            path = folder / PACKAGE / name
            path.parent.mkdir(exist_ok=True)
            (path.parent / "__init__.py").touch()
            if not path.exists():
                path.write_text(text)
        folder.rename(CACHE)  # whole or not at all


if __name__ == "__main__" and not CACHE.is_dir():
    fetch()

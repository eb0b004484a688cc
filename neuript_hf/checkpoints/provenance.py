"""Where numbers and weights come from: command, commit, machine, versions."""

import platform
import shlex
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch

from ..data.atomic import write_json
from ..data.tasks import TaskArguments


# Result files that are written along the way do not change the code that runs.
NOT_CODE = ":(exclude,top,glob)**/results/**"


def machine_name(device: torch.device | str = "cpu") -> str:
    """Name of the accelerator or the processor, as the system reports it."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def provenance() -> dict:
    """
    What is needed to reproduce a result: the command, the commit of the repository that the program lies in (`None`
    outside of one; `-dirty` where tracked files have changed, result files aside), threads and versions.
    """

    def git(*arguments: str) -> str:
        folder = Path(sys.argv[0]).resolve().parent
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=folder, check=False)
        return done.stdout.strip()

    commit = git("describe", "--always")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", NOT_CODE)
    packages = ("torch", "transformers", "datasets", "mne", "scikit-learn")
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "commit": f"{commit}-dirty" if changed else commit or None,
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in packages},
    }


def write_results(folder: str | Path, results: dict, task: TaskArguments, seed: int) -> None:
    """Writes `results.json`: the numbers, and what is needed to reproduce them."""
    origin = provenance() | {"seed": seed, "task": asdict(task)}
    write_json(Path(folder) / "results.json", results | {"provenance": origin})


__all__ = ["machine_name", "provenance", "write_results"]

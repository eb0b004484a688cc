"""Checkpoint folders made whole for others: exported with real code files, and pushed to the Hub."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi

from ..data.atomic import atomic_write, write_json
from ..link_safe_saving import CARD, commit_folder, is_signed
from .card import write_code_and_card, write_model_card
from .golden import GOLDEN_NAME, NO_EXTRACTOR, compare_with_golden, has_extractor
from .links import code_files


# The files of a checkpoint, without a training's own: those are pickles and folders.
ENDINGS = {".json", ".md", ".png", ".safetensors", ".yaml"}


def export_checkpoint(
    folder: str | Path,
    output: str | Path,
    features: str | Path | None = None,
    reconstruction: str | Path | None = None,
) -> Path:
    """
    Writes a checkpoint to a new folder that works anywhere: the files of `folder`, the package's code beside them, and
    a card. The copy is verified before it appears.

    Args:
        folder: a checkpoint folder; its code files may be links.
        output: where to write; must not exist or be empty.
        features, reconstruction: result files for a new card, as in [`write_model_card`]. Without them the folder's
            card is kept, and written only if there is none.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: if `folder` has no `config.json`.
        ValueError: if `folder` has no feature extractor, if `output` is not empty, or if the copy does not give its
            golden tensors.
    """
    folder, output = Path(folder), Path(output)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} is not a checkpoint folder: it has no config.json.")
    if not has_extractor(folder):
        raise ValueError(f"{folder} is not whole: {NO_EXTRACTOR}.")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} must be a new or an empty folder. Choose another name, or empty it.")
    with atomic_write(output) as partial:
        partial.mkdir()
        files = [path for path in folder.iterdir() if path.is_file() and path.suffix in ENDINGS]
        for source in files + code_files():
            shutil.copyfile(source, partial / source.name)
        if features or reconstruction or not (partial / "README.md").is_file():
            write_model_card(partial, features, reconstruction)
        if (partial / GOLDEN_NAME).is_file():
            problems = compare_with_golden(partial)["problems"]
            if problems:
                raise ValueError(f"{folder} fails its own check: {'; '.join(problems)}.")
        if output.is_dir():
            output.rmdir()
    return output


def push_checkpoint(
    folder: str | Path, repository: str, private: bool = False, revision: str | None = None, **results: str | None
) -> str:
    """
    Exports a checkpoint and uploads it to the Hub.

    Args:
        folder: as in [`export_checkpoint`].
        repository: `ORG/NAME`; made if it does not exist.
        private: whether a new repository is private.
        revision: branch to upload to; made if it does not exist. Default: the main branch.
        results: `features` and `reconstruction`, as in [`export_checkpoint`].

    Returns:
        The address of the commit.
    """
    hub = HfApi()
    with TemporaryDirectory() as temporary:
        exported = export_checkpoint(folder, Path(temporary) / repository.rsplit("/", 1)[-1], **results)
        repository = hub.create_repo(repository, private=private, exist_ok=True).repo_id
        adapters = exported / "adapter_config.json"
        if adapters.is_file():  # on the Hub, transformers asks here for the base, which lies beside the adapters
            write_json(adapters, json.loads(adapters.read_text()) | {"base_model_name_or_path": repository})
        card = (exported / CARD).read_text(encoding="utf-8")
        if is_signed(card):
            write_code_and_card(exported, repository=repository)
        else:  # the lines that are to be copied
            name = Path(folder).resolve().name
            (exported / CARD).write_text(card.replace(f'"{name}"', f'"{repository}"'), encoding="utf-8")
        if revision is not None:
            hub.create_branch(repository, branch=revision, exist_ok=True)
        message = f"Upload {Path(folder).name}"
        commit = commit_folder(hub, repository, exported, revision=revision, commit_message=message)
    return commit.commit_url


__all__ = ["export_checkpoint", "push_checkpoint"]

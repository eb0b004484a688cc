"""Whole folders: saved, also where the code files are links, as in this repository's `hub/`, and sent to the Hub."""

import hashlib
import os
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from transformers.utils import logging


logger = logging.get_logger(__name__)

CARD = "README.md"
WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
# What is about weights, and wrong beside others.
OF_WEIGHTS = (*WEIGHTS, "*.index.json", "adapter_*", "golden.safetensors", "training.json", "results.json")
# Of a repository that gets no weights now, what its card is written from.
OF_CARD = ("config.json", "training.json", "results.json")


class LinkSafeSaving:
    """
    Replaces links among a folder's code files by files before `save_pretrained` writes there. transformers copies
    code with `shutil.copyfile`, which would write through such a link onto the package. Afterwards the folder gets
    what else a checkpoint needs, as far as it is known by then.
    """

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, push_to_hub: bool = False, **kwargs: Any):
        """As in transformers; with `push_to_hub=True`, [`push_to_hub`] follows, to `repo_id` or the folder's name."""
        names = ("repo_id", "private", "token", "revision", "create_pr", "commit_message", "commit_description")
        commit = {name: kwargs.pop(name) for name in names if name in kwargs} if push_to_hub else {}
        for path in Path(save_directory).glob("*.py"):
            if path.is_symlink() and path.exists():
                partial = path.with_name(f"{path.name}.{os.getpid()}.part")
                partial.write_bytes(path.read_bytes())
                partial.replace(path)
            elif path.is_symlink():
                path.unlink(missing_ok=True)
        saved = super().save_pretrained(save_directory, *args, **kwargs)
        if kwargs.get("is_main_process", True):
            self._complete(Path(save_directory), **kwargs)
            if push_to_hub:
                self.push_to_hub(commit.pop("repo_id", None) or Path(save_directory).name, **commit)
        return saved

    def _complete(self, folder: Path, **saving: Any) -> None:
        """What a folder needs beside that which transformers saves, with the arguments of `save_pretrained`."""
        complete_folder(folder)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        commit_message: str | None = None,
        commit_description: str | None = None,
        max_shard_size: int | str | None = None,
    ) -> CommitInfo:
        """
        Uploads what [`save_pretrained`] writes, in one commit: all of it is there afterwards, or nothing. The card is
        written from this and what the repository has already; one that somebody has written or edited stays. New
        weights take the place of the repository's, with all that is about them.

        Args:
            repo_id: `ORG/NAME`; made if it does not exist.
            private: whether a new repository is private.
            token: of an account that may write there; default the one of `hf auth login` or `HF_TOKEN`.
            revision: branch to upload to; made if it does not exist. Default: the main branch.
            create_pr: whether to open a pull request instead.
            commit_message, commit_description: of the commit.
            max_shard_size: of a model or pipeline, as in `save_pretrained`.
        """
        hub = HfApi(token=token)
        repo_id = hub.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None and not revision.startswith("refs/"):
            hub.create_branch(repo_id, branch=revision, exist_ok=True)
        there = hub.list_repo_files(repo_id, revision=revision)
        with TemporaryDirectory() as temporary:
            folder = Path(temporary) / repo_id.rpartition("/")[2]

            def fetch(*names: str) -> None:
                for name in names:
                    if name in there and not (folder / name).exists():
                        hub.hf_hub_download(repo_id, name, revision=revision, local_dir=folder)

            fetch("preprocessor_config.json")
            self.save_pretrained(folder, **({} if max_shard_size is None else {"max_shard_size": max_shard_size}))
            weights_elsewhere = not has_weights(path.name for path in folder.iterdir()) and has_weights(there)
            if weights_elsewhere:
                fetch(*OF_CARD)
            complete_folder(folder, weights_elsewhere, repo_id)
            if CARD in there and keeps_card(hub, repo_id, revision):
                (folder / CARD).unlink(missing_ok=True)
            return commit_folder(
                hub,
                repo_id,
                folder,
                revision=revision,
                create_pr=create_pr,
                commit_message=commit_message or f"Upload {type(self).__name__}",
                commit_description=commit_description,
            )


def commit_folder(hub: HfApi, repo_id: str, folder: Path, revision: str | None = None, **commit: Any) -> CommitInfo:
    """
    Uploads the files of a folder in one commit, which `HfApi.upload_folder` does not promise. If there are weights
    among them, what was about others goes with it.
    """
    files = {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
    operations = [CommitOperationAdd(name, path) for name, path in files.items()]
    if has_weights(files):
        there = set(hub.list_repo_files(repo_id, revision=revision)) - files.keys()
        stale = sorted(name for name in there if any(fnmatch(name, pattern) for pattern in OF_WEIGHTS))
        operations += [CommitOperationDelete(name, is_folder=False) for name in stale]
    return hub.create_commit(repo_id, operations, revision=revision, **commit)


def has_weights(names: Iterable[str]) -> bool:
    """Whether there are weights among a folder's files."""
    return any(fnmatch(name, pattern) for name in names for pattern in WEIGHTS)


def keeps_card(hub: HfApi, repo_id: str, revision: str | None) -> bool:
    """Whether a repository's card is somebody's own, who is told that it stays."""
    with TemporaryDirectory() as temporary:
        card = hub.hf_hub_download(repo_id, CARD, revision=revision, local_dir=temporary)
        own = not is_signed(Path(card).read_text(encoding="utf-8"))
    if own:
        logger.warning(f"The card of {repo_id} stays as it is: somebody has written or edited it, or it has results.")
    return own


def signed(card: str) -> str:
    """A card with a last line by which an edited one is known."""
    card = card.rstrip("\n")
    digest = hashlib.sha256(card.encode()).hexdigest()[:16]
    return f"{card}\n\n<!-- Written by neuript_hf, which replaces this card unless you edit it ({digest}). -->\n"


def is_signed(card: str) -> bool:
    """Whether a card is still as [`signed`] left it."""
    return card == signed(card.rpartition("\n\n<!--")[0])


def complete_folder(folder: Path, weights_elsewhere: bool = False, repository: str | None = None) -> None:
    """
    Writes the code files and the card where the package, which has them, is installed. With `weights_elsewhere` the
    card is that of a checkpoint although the weights are not in the folder; `repository` is its name on the Hub.
    """
    try:
        from neuript_hf.checkpoints.card import write_code_and_card
    except ImportError:
        return
    write_code_and_card(folder, weights_elsewhere, repository)


__all__ = ["LinkSafeSaving", "commit_folder", "complete_folder", "is_signed", "signed"]

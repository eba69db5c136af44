"""Repositories of the Hugging Face Hub, by `huggingface_hub`: their names, downloading and uploading.

That package reads HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE, and keeps what it has downloaded.
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from switchnorm import __version__
from switchnorm.deploy.hub_errors import EXPECTED, UnreachableError, explained
from switchnorm.errors import InputError, not_installed

#: How an address on the hub begins, as timm writes it too.
PREFIX = "hf-hub:"
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_NAME = re.compile(rf"{_PART}/{_PART}")
#: How files end that run code as they are read.
_CODE = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".py", ".joblib")


@dataclass(frozen=True)
class Repository:
    """A repository of models.

    Args:
        name: "org/name".
        revision: a branch, a tag or a commit; None for the main branch.
    """

    name: str
    revision: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or "--" in self.name or ".." in self.name or self.name.endswith(".git"):
            raise InputError(
                f"{self.name!r} is no name of a repository; expected org/name of letters, digits, '-', '_' and '.'"
            )
        if self.revision is not None and (not self.revision.strip() or not self.revision.isprintable()):
            raise InputError(f"{self.revision!r} is no revision of {self.name}; expected a branch, a tag or a commit")

    @classmethod
    def parse(cls, address: str) -> Repository:
        """Read "hf-hub:org/name" or "hf-hub:org/name@revision"."""
        if not isinstance(address, str):
            raise InputError(f"name {address!r:.80} is no text; a repository is called as org/name")
        name, at, revision = address.removeprefix(PREFIX).partition("@")
        return cls(name, revision if at else None)

    def __str__(self) -> str:
        return f"{PREFIX}{self.name}{'' if self.revision is None else f'@{self.revision}'}"


def download(repository: Repository, names: Sequence[str]) -> Path:
    """Files of one commit of a repository, in the cache of `huggingface_hub`.

    Where the hub cannot be reached the files that were downloaded before are taken, which a warning says.

    Args:
        repository: which.
        names: of the files, all in one folder.

    Returns:
        The folder; nothing else in it is to be read.

    Raises:
        InputError: the package is missing; no such repository, revision or file; one that needs a token; the hub cannot
            be reached, and the files are not in the cache.
    """
    _require(f"{repository} lies on the Hugging Face Hub, which")
    from huggingface_hub import HfApi, constants, hf_hub_download

    about: dict[str, Any] = {"library_name": "switchnorm", "library_version": __version__}
    try:
        with explained(repository, "downloaded"):
            info = HfApi(**about).model_info(
                repository.name, revision=repository.revision, timeout=constants.HF_HUB_ETAG_TIMEOUT
            )
    except UnreachableError as error:
        return _cached(repository, names, error)
    found = [each.rfilename for each in info.siblings or ()]
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(f"{repository} has no {missing[0]}{_others(found)}; {EXPECTED}")
    try:
        with explained(repository, "downloaded"):
            # By the name of the branch, so that the cache knows later what was on it, and then by the commit.
            first = Path(hf_hub_download(repository.name, names[0], revision=repository.revision, **about))
            folder = first.parent
            for name in names[1:]:
                hf_hub_download(repository.name, name, revision=folder.name, **about)
    except UnreachableError as error:
        return _cached(repository, names, error)
    if folder.name != info.sha:
        raise InputError(f"{repository} has changed while it was downloaded; try again")
    return folder


def _others(found: Sequence[str]) -> str:
    """What a repository holds in place of what is looked for."""
    code = [name for name in found if name.endswith(_CODE)]
    if code:
        return f", only {code[0]}, which may run code as it is read and is not opened"
    return f", only {', '.join(found[:3])}{', ...' if len(found) > 3 else ''}" if found else ", nor any file"


def _cached(repository: Repository, names: Sequence[str], error: UnreachableError) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        paths = [
            Path(hf_hub_download(repository.name, name, revision=repository.revision, local_files_only=True))
            for name in names
        ]
    except LocalEntryNotFoundError:
        raise InputError(
            f"{repository} cannot be downloaded: {error}; nor is it in the cache (HF_HOME) from an earlier time"
        ) from error
    folders = {path.parent for path in paths}
    if len(folders) > 1:
        raise InputError(f"{repository} is in the cache only in part, and cannot be downloaded: {error}") from error
    folder = folders.pop()
    warnings.warn(
        f"{repository} is the copy in the cache, commit {folder.name[:12]}, which may not be the newest: {error}",
        stacklevel=4,
    )
    return folder


def upload(folder: Path, repository: Repository, names: Sequence[str], *, private: bool, message: str) -> str:
    """Make a repository, where there is none, and commit files to it, all or none of them.

    Args:
        folder: where the files are.
        repository: which; without a revision the main branch.
        names: of the files.
        private: whether a new repository is seen by its owners alone; those that exist stay as they are.
        message: of the commit.

    Returns:
        The address of the commit, for a browser.

    Raises:
        InputError: the package is missing; no token, or one that may not write there; the hub cannot be reached.
    """
    _require(f"pushing to {repository.name}")
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(library_name="switchnorm", library_version=__version__)
    with explained(repository, "uploaded", writes=True):
        api.create_repo(repository.name, private=private or None, exist_ok=True)
        if private and not api.model_info(repository.name).private:
            raise InputError(
                f"{repository.name} is there already, and everybody sees it; leave --private out, or make it private "
                "on the hub first"
            )
        if repository.revision is not None:
            api.create_branch(repository.name, branch=repository.revision, exist_ok=True)
        files = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in names]
        made = api.create_commit(repository.name, files, commit_message=message, revision=repository.revision or "main")
    return str(made.commit_url)


def check_upload() -> None:
    """Raise `InputError` where uploading is bound to fail: the package is missing, or there is no token."""
    _require("pushing to the Hugging Face Hub")
    from huggingface_hub import get_token

    if not get_token():
        raise InputError(
            "pushing needs a token of the Hugging Face Hub with write access: run `hf auth login`, or set HF_TOKEN; "
            "`--to DIR` only writes the files"
        )


def _require(doing: str) -> None:
    if importlib.util.find_spec("huggingface_hub") is None:
        raise not_installed(("huggingface_hub",), doing, "hub")

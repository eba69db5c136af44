"""Reading the files of a run folder, so that whatever is wrong with one is a line that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from switchnorm.errors import InputError


def read_record(path: Path, what: str) -> dict[str, Any]:
    """The object in a JSON file that is meant to hold `what`."""
    try:
        found = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is damaged: expected {what} as JSON") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is damaged: expected a JSON object, got {type(found).__name__}")
    return found


def read_text(path: Path) -> str:
    """The whole of a text file."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: a run folder holds config.yaml, run.json and metrics.csv") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}") from error

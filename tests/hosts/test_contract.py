"""Every model of other libraries under every normalizer, and the page that says so."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from tests.hosts import libraries, normalizers

PAGE = Path(__file__).parents[2] / "docs" / "libraries.md"
FOLDER = Path(libraries.__file__).parent


def _names(library: str) -> list[str]:
    """The names of a library's hosts, without importing it."""
    tree = ast.parse((FOLDER / f"{library}.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [ast.literal_eval(call.args[0]) for call in calls if getattr(call.func, "id", "") == "Host"]

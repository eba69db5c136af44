"""Triton chooses its interpreter or its compiler at import, so the interpreter's tests have their own process."""

from __future__ import annotations

import importlib.util
import os

collect_ignore = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["interpreted"]
collect_ignore_glob = [] if importlib.util.find_spec("triton") else ["test_*.py", "interpreted"]

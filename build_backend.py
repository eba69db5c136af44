"""What pyproject.toml cannot say: that a build compiles the CPU library, and what it does where there is no compiler.

It is the build backend (PEP 517): setuptools', which asks for a compiler only where one is to be had.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

#: The package that is the compiler.
COMPILER = "ziglang>=0.13"

_PATH = Path(__file__).parent / "switchnorm" / "ops" / "kernels" / "native" / "build.py"
_INSIDE = Path(*_PATH.parts[-5:-1], "built")
_spec = importlib.util.spec_from_file_location("build_native", _PATH)
assert _spec is not None
assert _spec.loader is not None
native = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(native)


#: What uv's settings are called by pip.
_UV = {"UV_DEFAULT_INDEX": "PIP_INDEX_URL", "UV_INDEX_URL": "PIP_INDEX_URL", "UV_NO_INDEX": "PIP_NO_INDEX"}
_UV |= {"UV_FIND_LINKS": "PIP_FIND_LINKS", "UV_EXTRA_INDEX_URL": "PIP_EXTRA_INDEX_URL"}


def _offered(package: str) -> bool:
    """Whether the registry that pip, or uv, is set up with has a package for this machine."""
    ask = [sys.executable, "-m", "pip", "--retries", "1", "--timeout", "15", "index", "versions", package]
    environment = os.environ | {name: os.environ[of_uv] for of_uv, name in _UV.items() if of_uv in os.environ}
    return subprocess.run(ask, env=environment, capture_output=True).returncode == 0


def _compiler() -> list[str]:
    """What a build needs that installations do without, where a registry has other packages but not that one.

    An index that was named by an installer's own option is not seen here; then nothing is left out.
    """
    name = COMPILER.partition(">")[0]
    return [] if not _offered(name) and _offered("setuptools") else [COMPILER]


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """What `pip install .` brings for the time of a build."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_compiler()]


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    """What `pip install -e .` brings for the time of a build."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *_compiler()]


class BuildLibrary(build_py):
    """As setuptools builds, and the library: into the sources where these stay in use, else beside the modules."""

    def run(self) -> None:
        """Build."""
        super().run()
        folder = Path(".") if self.editable_mode else Path(self.build_lib)
        if not self.editable_mode:
            shutil.rmtree(folder / _INSIDE, ignore_errors=True)  # of an earlier build, perhaps of other sources
        try:
            native.build(native.this_machine(), folder / _INSIDE)
        except native.BuildError as error:
            # Installers show warnings; with no source to be shown it is one line.
            said = f"installed without the compiled CPU library, so that layers on a CPU are slower: {error}"
            warnings.warn_explicit(said, UserWarning, "switchnorm", 1)


class PlatformWheel(bdist_wheel):
    """A wheel for every Python, on one kind of machine where it holds the library."""

    def finalize_options(self) -> None:
        """Say that it belongs to a platform, as wheels of extension modules do."""
        self.distribution.has_ext_modules = lambda: True  # type: ignore[method-assign]
        super().finalize_options()

    def get_tag(self) -> tuple[str, str, str]:
        """Python, its binary interface, and the platform."""
        assert self.bdist_dir is not None
        built = any(Path(self.bdist_dir, _INSIDE).glob("*-*"))
        return "py3", "none", super().get_tag()[2] if built else "any"

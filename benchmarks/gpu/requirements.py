"""What the study needs where it runs, looked for before anything else is imported."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from importlib.util import find_spec

#: Modules, by the name under which they are installed.
PACKAGES = {
    "torch": "torch",
    "triton": "triton",
    "torchvision": "torchvision",
    "pytorch_lightning": "pytorch-lightning",
    "torchmetrics": "torchmetrics",
    "jsonargparse": "jsonargparse",
    "docstring_parser": "docstring-parser",
    "typeshed_client": "typeshed-client",
    "yaml": "pyyaml",
    "tensorboard": "tensorboard",
    "rich": "rich",
    "plotly": "plotly",
    "sklearn": "scikit-learn",
    "faster_coco_eval": "faster-coco-eval",
    "safetensors": "safetensors",
    "numpy": "numpy",
    "PIL": "pillow",
    "pytest": "pytest",
    "xdist": "pytest-xdist",
    "hypothesis": "hypothesis",
    "timm": "timm",
}
#: Those that seldom lie ready, and may need others by their version: they are imported, which tells.
TRIED = ("jsonargparse", "docstring_parser", "typeshed_client", "plotly", "faster_coco_eval")
#: Of which Triton takes one to build its launchers; its interpreter, which rehearses, has none.
COMPILERS = ("cc", "gcc", "clang")


def missing() -> list[str]:
    """What is not there, by the names under which it is installed."""
    found = [name for module, name in PACKAGES.items() if find_spec(module) is None]
    for module in TRIED:
        try:
            importlib.import_module(module)
        except ImportError as error:
            name = error.name or str(error)
            found.append(PACKAGES.get(name, name))
    if os.environ.get("TRITON_INTERPRET") != "1" and not any(map(shutil.which, COMPILERS)):
        found.append(f"a C compiler ({' or '.join(COMPILERS)})")
    return list(dict.fromkeys(found))


def check() -> None:
    """Exit with 2 and one line if anything is missing."""
    lacking = missing()
    if lacking:
        print(f"benchmarks: gpu: this machine lacks {', '.join(lacking)}; install that first", file=sys.stderr)
        raise SystemExit(2)

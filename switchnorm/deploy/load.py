"""Opening whatever holds a network: a run, a checkpoint, a folder, an exported file, or a name on the hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from switchnorm.data.files.walk import EXTENSIONS
from switchnorm.deploy.formats import FORMATS, format_of, require
from switchnorm.deploy.hub import PREFIX, Repository, download
from switchnorm.deploy.model_folder import FILES, NEEDED, WEIGHTS, open_folder
from switchnorm.deploy.net import Net
from switchnorm.errors import InputError
from switchnorm.runs.reading import CONFIG, run_of

#: What opening a run imports, and a folder with weights; of all that this library needs, what says it best.
_TRAINED = ("torch", "torchvision", "safetensors")
#: How files end that hold weights and not how these are used.
_WEIGHTS_ALONE = (".ckpt", ".pth", ".pt", ".bin", ".tar", ".pkl")
_ON_HUB = re.compile(r"(?:https://huggingface\.co/)?([\w.-]+/[\w.-]+(?:@\S+)?)/?")


def load(what: str | os.PathLike[str], *, checkpoint: str | None = None, device: str = "cpu") -> Net:
    """Open a network to ask it about pictures: `switchnorm.load("runs/flowers").predict("rose.jpg")`.

    Nothing that trains is imported, and for a file of ONNX or OpenVINO not torch either. No code is run that a file
    holds.

    Args:
        what: a run's folder, or one of its checkpoints; a folder that `switchnorm push` has written; a file that
            `switchnorm export` has written; or "hf-hub:org/name".
        checkpoint: of a run's folder alone: best, last, epoch:N or a file; None for best.
        device: where torch computes, such as "cpu", "cuda", or "auto" for the fastest here; other runtimes have "cpu".

    Raises:
        InputError: nothing there, something else, a damaged file, a checkpoint of what is no run's folder, or a package
            that is missing, with the line that installs it.
    """
    if not isinstance(what, str | os.PathLike) or not os.fspath(what):
        kinds = f"expected a run, a folder, an exported file or {PREFIX}org/name"
        raise InputError(f"{what!r:.80} names nothing; {kinds}")
    name = str(os.fspath(what))
    path = Path(os.path.expanduser(name))
    run = run_of(path)
    if checkpoint is not None and run != path:
        raise InputError(f"checkpoint {checkpoint!r} is one of a run's, and {name!r} is no run's folder; leave it out")
    if name.startswith(PREFIX):
        require(_TRAINED, f"{name}, weights as they were trained,")
        return Net(open_folder(download(Repository.parse(name), NEEDED), name, device), name)
    if not os.path.exists(path):
        on_hub = _ON_HUB.fullmatch(name)
        hint = f"; on the hub it is called {PREFIX}{on_hub[1]}" if on_hub else ""
        raise InputError(f"{name!r} does not exist; expected a run, a folder, or an exported file{hint}")
    if path.is_dir():
        if run is not None:
            return _of_run(path, name, device, checkpoint or "best")
        if not (path / WEIGHTS).is_file():
            raise InputError(f"folder {name!r} has neither {CONFIG}, as runs have, nor {WEIGHTS}{_inside(path)}")
        require(_TRAINED, f"{name}, weights as they were trained,")
        return Net(open_folder(path, name, device), name)
    if path.suffix.lower() in _WEIGHTS_ALONE:
        if run is None:
            raise InputError(
                f"{name!r} is in no run, and weights alone do not say how pictures are shown to them; expected a run "
                f"or one of its checkpoints (`switchnorm predict PICTURE --weights {name} --model NAME --classes "
                "CLASSES` takes any weights)"
            )
        return _of_run(path, name, device, "best")
    return _of_file(path, name, device)


def _of_file(path: Path, name: str, device: str) -> Net:
    if path.suffix.lower() in EXTENSIONS:
        raise InputError(f"{name!r} is a picture; what is to look at it comes first: a run or an exported file")
    if path.name == CONFIG or (path.name in FILES and path.name != WEIGHTS):
        raise InputError(f"{name!r} is a part of a folder that holds a network; the nearest is {str(path.parent)!r}")
    return Net(format_of(path).open(path, device), name)


def _of_run(path: Path, name: str, device: str, checkpoint: str) -> Net:
    require(_TRAINED, f"{name}, a run,")
    from switchnorm.deploy.networks import trained

    return trained(path, checkpoint).net(name, device)


def _inside(path: Path) -> str:
    """What of a folder can be opened in its place."""
    suffixes = tuple(each.suffix for each in FORMATS.values())
    near = sorted(str(each) for each in path.iterdir() if each.name.endswith(suffixes) or (each / CONFIG).is_file())
    return f"; the nearest is {near[0]!r}" if near else ", as `switchnorm push` writes it"

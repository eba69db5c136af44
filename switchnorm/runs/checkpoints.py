"""The checkpoints of a run, by what people call them."""

from __future__ import annotations

from pathlib import Path

from switchnorm.errors import InputError
from switchnorm.runs.folder import RunFolder


def checkpoint_of(run: RunFolder, which: str) -> Path:
    """The file of a checkpoint.

    Args:
        run: the run.
        which: "last", "previous", "best", "epoch:N" for the snapshot after N epochs, or a file.

    Raises:
        InputError: it does not exist, or N is no number of epochs.
    """
    kind, colon, epochs = which.partition(":")
    if kind == "epoch" and colon:
        if not epochs.isdecimal() or int(epochs) < 1:
            raise InputError(f"checkpoint {which!r} must name a number of epochs of at least 1, as in 'epoch:10'")
        path = run.snapshot(int(epochs))
    else:
        path = {"last": run.last, "previous": run.previous, "best": run.best}.get(which, Path(which))
    if not path.is_file():
        available = ", ".join(_checkpoints(run)) or "none yet"
        raise InputError(f"checkpoint {which!r} does not exist; {str(run.path)!r} has {available}")
    return path


def _checkpoints(run: RunFolder) -> list[str]:
    """What `checkpoint_of` finds in a run, snapshots last and in the order of epochs."""
    stems = [path.stem for path in run.checkpoints.glob("*.ckpt")]
    epochs = sorted(int(stem[6:]) for stem in stems if stem.startswith("epoch-") and stem[6:].isdecimal())
    return [*sorted(stem for stem in stems if not stem.startswith("epoch-")), *(f"epoch:{number}" for number in epochs)]

"""What became of an export, to be printed or asked for."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from switchnorm.deploy.description import DIMENSIONS, Description
from switchnorm.deploy.formats import Format

if TYPE_CHECKING:
    from switchnorm.deploy.checks import Check


class ExportWarning(UserWarning):
    """What an export has decided, and its caller may not expect."""


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Args:
        path: of the file.
        files: of which it consists.
        format: of the file.
        description: that it holds.
        outputs: names of what it gives.
        checks: what it was compared with.
        channels: C of the images that it takes.
        folded: what became of the normalizations, and of how many.
        notes: what was decided, a line each.
    """

    path: Path
    files: tuple[Path, ...]
    format: Format
    description: Description
    outputs: tuple[str, ...]
    checks: tuple[Check, ...]
    channels: int
    folded: dict[str, int]
    notes: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def next(self) -> str:
        """The command to go on with."""
        file = shlex.quote(str(self.path))
        if not self.description.predicts:
            return f'python -c "import switchnorm; print(switchnorm.load({str(self.path)!r}).description)"'
        return f"switchnorm predict {file} PICTURES --out FOLDER"

    def __str__(self) -> str:
        about = self.description
        sides = [
            name if name in about.dynamic else str(side)
            for name, side in zip(DIMENSIONS[1:], about.size or ("height", "width"), strict=True)
        ]
        kind = "float32" if about.raw else "uint8"
        first = "batch" if "batch" in about.dynamic else "1"
        lines = [
            f"{self.path}: {self.format.name}, {self.bytes / 1e6:.1f} MB",
            f"  takes images {kind} ({first}, {self.channels}, {', '.join(sides)}), gives {', '.join(self.outputs)}",
        ]
        if self.folded:
            lines.append("  folded: " + ", ".join(f"{count} {name}" for name, count in self.folded.items()))
        error = "root mean square over that" if about.int8 else "largest difference over the largest"
        if self.checks:
            shown = ", ".join(map(str, self.checks[:3]))
            lines.append(f"  checked in its runtime, {error} of the outputs: {shown}")
        lines += [f"  {note}" for note in self.notes]
        lines.append(f"next: {self.next}")
        return "\n".join(lines)

"""A study whose table has all runs of its folder, whichever command trained them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from switchnorm.config.schema import Config
from switchnorm.files import is_part
from switchnorm.runs.folder import RunFolder
from switchnorm.studies.parallel import Outcome, ended_as, has_ended
from switchnorm.studies.study import Keep, Study


@dataclass(kw_only=True)
class CollectedStudy(Study):
    """A study to which another command may add rows, columns and seeds."""

    @property
    def others(self) -> list[Path]:
        """The runs beside those of the plan, which earlier commands began in the study's folder."""
        beside = (file.parent for file in sorted(self.plan[0][0].parent.glob("*/config.yaml")))
        return [
            path
            for path in beside
            if path not in self.names and not is_part(path.name) and (path / "run.json").is_file()
        ]

    @property
    def counted(self) -> list[Path]:
        """The runs with a result: those of the plan in the order of the table, then the others."""
        others = (path for path in self.others if has_ended(path) and not ended_as(path).error)
        return [*(path for path in self.finished if path not in self.errors), *others]

    @property
    def left_out(self) -> dict[Path, tuple[Config, str]]:
        """The runs that have no result: how each is configured, and why it failed; "" while it is still to come."""
        counted = set(self.counted)
        found = {path: (config, self.errors.get(path, "")) for path, config in self.plan}
        for path in self.others:
            found[path] = (RunFolder(path).config(), (ended_as(path).error or "") if has_ended(path) else "")
        return {path: found[path] for path in (*self.names, *self.others) if path not in counted}

    def run(
        self, command: Sequence[str], keep: Keep = lambda facts: None, console: Console | None = None
    ) -> dict[Path, Outcome]:
        """As of any study; a run in the folder that cannot be read is named before anything is trained."""
        self.left_out  # noqa: B018 - all runs are read by being asked for
        return super().run(command, keep, console)

    def facts(self, command: Sequence[str], seconds: float) -> dict[str, Any]:
        """With the seeds of all runs."""
        configs = [*(config for _, config in self.plan), *(RunFolder(path).config() for path in self.others)]
        return {**super().facts(command, seconds), "seeds": sorted({config.seed for config in configs})}

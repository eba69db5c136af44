"""Where trainings are computed that are only submitted here: on SLURM's machines, or in jobs of this one.

This module needs no torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from switchnorm.config.ranges import Range
from switchnorm.errors import InputError, unknown

ENGINES = ("slurm", "local")

#: What SLURM alone knows.
_SLURMS = ("partition", "account", "memory", "nodes")

_RANGES = {
    "cpus": Range(1, most=4096),
    "gpus": Range(0, most=64),
    "memory": Range(1, most=10**6),
    "nodes": Range(1, most=10**5),
    "processes": Range(1, most=1024),
}

#: As `sbatch --time` takes it: minutes, M:S, H:M:S, D-H, D-H:M, D-H:M:S.
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")
_MINUTES = Range(1, most=10**7)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where jobs run, and what each of them asks for; None leaves it to the cluster.

    Args:
        engine: "slurm", or "local" for jobs on this machine.
        partition: of SLURM.
        account: whose share of the cluster is used.
        time: minutes after which a job saves itself and is queued again, or as `sbatch --time` takes them.
        cpus: cores of each process.
        gpus: of each node; None is one for each process that trains on CUDA.
        memory: of each node, in GiB.
        nodes: machines of a training.
        processes: of a training on each node; None is one for each GPU that `gpus` asks for, at least one.
    """

    engine: str
    partition: str | None = None
    account: str | None = None
    time: str | None = None
    cpus: int | None = None
    gpus: int | None = None
    memory: int | None = None
    nodes: int | None = None
    processes: int | None = None

    @property
    def tasks(self) -> int:
        """Processes of a training on each node."""
        return self.processes or self.gpus or 1

    @property
    def minutes(self) -> int | None:
        """The time of a job in whole minutes, rounded up."""
        return None if self.time is None else _minutes(self.time)

    def check(self) -> Cluster:
        """Return it if it makes sense; raise `InputError` that names the first flag that does not."""
        if self.engine not in ENGINES:
            raise unknown("cluster", self.engine, ENGINES)
        if self.engine == "local":
            for name in _SLURMS:
                if getattr(self, name) is not None:
                    raise InputError(f"--{name} is for --cluster slurm, and this is local; leave it out")
        for name, allowed in _RANGES.items():
            allowed.check(f"--{name}", getattr(self, name))
        if self.time is not None:
            _MINUTES.check("--time, in minutes,", _minutes(self.time))
        return self

    def single(self) -> Cluster:
        """Return it if each training is one process; raise `InputError` otherwise."""
        for name in ("nodes", "gpus", "processes"):
            value = getattr(self, name)
            if value is not None and value > 1:
                raise InputError(f"--{name} {value}: several trainings take one process each; use --{name} 1")
        return self


#: The flags that say more of `--cluster`.
DETAILS = tuple(field.name for field in fields(Cluster) if field.name != "engine")


def _minutes(text: str) -> int:
    """The minutes of a time as `sbatch --time` takes it, rounded up."""
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise InputError(f"--time must be minutes, H:M:S or D-H:M:S, got {text!r}; four hours are 4:00:00")
    days, first, second, third = (None if part is None else int(part) for part in found.groups())
    if days is not None:
        seconds = 86400 * days + 3600 * (first or 0) + 60 * (second or 0) + (third or 0)
    elif third is not None:
        seconds = 3600 * (first or 0) + 60 * (second or 0) + third
    else:
        seconds = 60 * (first or 0) + (second or 0)
    return -(-seconds // 60)

"""The flags of commands that may leave their trainings to a cluster."""

from __future__ import annotations

import argparse

from switchnorm.config.cluster import DETAILS, Cluster
from switchnorm.errors import InputError

ABOUT = """With --cluster slurm a job is submitted for each training, all in one array, and followed until it ends. A
job that runs out of --time or is preempted saves itself and is queued again; it goes on bit for bit. Ctrl-C
leaves the jobs alone, and the same command follows them again. --cluster local runs the same jobs on this
machine."""


def add(command: argparse.ArgumentParser) -> None:
    """Add them to a command."""
    cluster = command.add_argument_group("on a cluster (pip install 'switchnorm[cluster]')")
    cluster.add_argument("--cluster", metavar="ENGINE", help="slurm, or local for jobs on this machine")
    cluster.add_argument("--partition", metavar="P", help="of SLURM (the cluster's default)")
    cluster.add_argument("--account", metavar="A", help="of SLURM (yours)")
    cluster.add_argument("--time", metavar="T", help="minutes or H:M:S; then a job is queued again (slurm: 4:00:00)")
    cluster.add_argument("--cpus", type=int, metavar="N", help="cores of each process (slurm: 1)")
    cluster.add_argument("--gpus", type=int, metavar="N", help="of each node (one for each process on CUDA)")
    cluster.add_argument("--memory", type=int, metavar="GIB", help="of each node (the cluster's default)")
    cluster.add_argument("--nodes", type=int, metavar="N", help="machines of one training (1)")
    cluster.add_argument("--processes", type=int, metavar="N", help="of one training on each node (one for each GPU)")


def given(options: argparse.Namespace) -> Cluster | None:
    """What the flags ask for; None where trainings are this machine's own.

    Raises:
        InputError: a value that makes no sense, or details of a cluster that is not asked for.
    """
    details = {name: getattr(options, name) for name in DETAILS}
    if options.cluster is not None:
        return Cluster(engine=options.cluster, **details).check()
    for name, value in details.items():
        if value is not None:
            raise InputError(f"--{name} is for trainings on a cluster; give --cluster slurm, or leave it out")
    return None

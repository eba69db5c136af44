"""A SLURM of its own on this machine: two nodes of two cores, that live in a folder until they are stopped."""

import contextlib
import os
import shutil
import socket
import subprocess
import time

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")

# Nodes are named by addresses, by which the processes of a job find each other. A job of `high` preempts those of
# `low`, which have a minute to save themselves and are queued again.
_CONFIG = """
ClusterName=switchnorm-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=1,sched_interval=5
ReturnToService=2
JobRequeue=1
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=127.0.0.[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs=2 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10
PartitionName=short Nodes=ALL MaxTime=10 State=UP
PartitionName=narrow Nodes=ALL MaxNodes=1 MaxTime=INFINITE State=UP
PartitionName=closed Nodes=ALL MaxTime=INFINITE State=DOWN
PartitionName=lab Nodes=ALL MaxTime=INFINITE State=UP AllowAccounts=lab
"""


def missing():
    """What a cluster needs and this machine lacks, in words; empty where it has all."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    return f"{', '.join(absent)}: apt-get install slurm-wlm munge" if absent else "root" if os.geteuid() else ""


@contextlib.contextmanager
def running(folder):
    """Start a cluster; yields the environment by which its commands find it."""
    port = _free_ports(3)
    munge = folder / "munge"
    for each in (munge, folder / "state", folder / "spool-127.0.0.1", folder / "spool-127.0.0.2"):
        each.mkdir(mode=0o700)
    (munge / "key").write_bytes(os.urandom(128))
    (munge / "key").chmod(0o600)
    file = folder / "slurm.conf"
    host = socket.gethostname().partition(".")[0]
    file.write_text(_CONFIG.format(folder=folder, host=host, port=port, first=port + 1, last=port + 2))
    environment = {**os.environ, "SLURM_CONF": str(file), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    files = (f"--{name}-file={munge / name}" for name in ("key", "pid", "log", "seed"))
    daemons = [
        ["munged", "--foreground", "--force", f"--socket={munge / 'socket'}", *files],
        ["slurmctld", "-D"],
        *(["slurmd", "-D", "-N", f"127.0.0.{number}"] for number in (1, 2)),
    ]
    with contextlib.ExitStack() as ends:
        for command in daemons:
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            ends.callback(_end, process)
            time.sleep(1)
        _wait_for_nodes(environment)
        yield environment


def _wait_for_nodes(environment):
    for _ in range(60):
        said = subprocess.run(
            ["sinfo", "-h", "-o", "%t %D", "-p", "low"], env=environment, capture_output=True, text=True
        )
        if said.stdout.split() == ["idle", "2"]:
            return
        time.sleep(1)
    raise RuntimeError(f"the nodes did not come up: {said.stdout} {said.stderr}")


def _end(process):
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports(count):
    """The first of so many ports in a row that nobody has."""
    for port in range(26800, 36000, 10):
        with contextlib.ExitStack() as held:
            try:
                for each in range(port, port + count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", each))
                return port
            except OSError:
                continue
    raise RuntimeError("no ports are free")

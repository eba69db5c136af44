"""Training on several nodes, each with an agent of torchrun of its own."""

import os
import socket
import subprocess
import sys

import torch

from switchnorm.runs.folder import RunFolder
from tests.forked import together


def test_two_nodes_of_one_process_train_as_one_node_of_two(recipe, tmp_path):
    flags = ("--epochs", "1", "--norm", "ssn", "--batch-size", "512", "--samples-per-gpu", "null")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    command += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    train = ["-m", "switchnorm", "train", str(recipe), *flags, "--out", "nodes"]
    # As within a job of SLURM, whose word Lightning would take.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SLURM_NTASKS": "7", "SLURM_JOB_NAME": "train"}
    nodes = [
        subprocess.Popen(
            [*command, f"--node-rank={rank}", *train], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL
        )
        for rank in range(2)
    ]
    assert [node.wait(300) for node in nodes] == [0, 0]
    assert together(tmp_path, 2, "-m", "switchnorm", "train", recipe, *flags, "--out", "one").returncode == 0
    one, two = (torch.load(tmp_path / name / "checkpoints/last.ckpt")["state_dict"] for name in ("one", "nodes"))
    assert all(torch.equal(two[key], value) for key, value in one.items())
    assert RunFolder(tmp_path / "nodes").record()["processes"] == 2

"""Processes that read and end otherwise than they should: one line each, and nothing hangs."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver

import pytest
import torch
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from switchnorm.data.loaders import workers
from switchnorm.data.loaders.picture_readers import PictureRequest, Pictures
from switchnorm.data.loaders.reader import BatchReader
from switchnorm.errors import InputError

pytestmark = pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals are POSIX")


class Ending(BatchReader):
    """Ends in some way when it is asked for its second batch."""

    def __init__(self, how: str) -> None:
        self.how = how

    def read(self, request: PictureRequest) -> Pictures:
        if request.samples == [1]:
            if self.how.startswith("SIG"):
                os.kill(os.getpid(), getattr(signal, self.how))
            if self.how == "exit":
                os._exit(7)
            if self.how == "server":
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(8)
            if self.how == "memory":
                raise MemoryError
            raise RuntimeError("unforeseen\nand more")
        return Pictures(request, torch.zeros(2), torch.zeros(1), {})


@pytest.fixture
def impatient(monkeypatch):
    """torch looks every tenth of a second, and not every five seconds, whether its processes are alive."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.1,))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("SIGKILL", "was killed by SIGKILL, as the system does where memory is short;"),
        ("SIGSEGV", "was killed by SIGSEGV, by a crash in a library;"),
        ("SIGBUS", "shared memory, /dev/shm, is full;"),
        ("exit", "ended with exit code 7;"),
        ("memory", "memory is short for the processes that read pictures;"),
        ("error", r"^reading pictures failed with RuntimeError: unforeseen \(.*test_lost_readers.py, line \d+\);"),
    ],
)
def test_a_reader_that_ends_is_a_line(capfd, how, said):
    requests = [PictureRequest(0, [place]) for place in range(6)]
    batches = workers.read_batches(Ending(how), requests, 6, 2, "cpu")
    with pytest.raises(InputError, match=said) as caught:
        list(batches)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
    del caught
    assert not multiprocessing.active_children()


def test_the_loss_of_the_server_is_a_line_and_the_next_reading_starts_another():
    requests = [PictureRequest(0, [place]) for place in range(6)]
    with pytest.raises(InputError, match="was lost with the process that started it"):
        list(workers.read_batches(Ending("server"), requests, 6, 2, "cpu"))
    server = forkserver._forkserver._forkserver_pid
    assert len(list(workers.read_batches(Ending(""), requests[:1], 1, 1, "cpu"))) == 1
    assert forkserver._forkserver._forkserver_pid != server


def test_readers_end_with_a_process_that_is_killed():
    process = subprocess.Popen([sys.executable, "-m", __name__], stdout=subprocess.PIPE, text=True)
    try:
        assert len(process.stdout.readline().split()) == 2
        process.kill()
        process.communicate(timeout=60)  # ends once the readers and their server have closed the pipe
    finally:
        process.kill()


def test_readers_that_cannot_be_started_are_a_line(monkeypatch):
    def fail(*_):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(workers, "iter", fail, raising=False)
    with pytest.raises(InputError, match=r"cannot be started \(Broken pipe\); --data.workers 0 reads without"):
        next(workers.read_batches(Ending(""), [PictureRequest(0, [0])], 1, 1, "cpu"))


def _read_and_wait():
    """Name the readers that are at work, as a program that is then killed."""
    requests = [PictureRequest(0, [place]) for place in (0, 2, 3, 4, 5)]
    batches = workers.read_batches(Ending(""), requests, 5, 2, "cpu")
    next(batches)
    print(*[process.pid for process in multiprocessing.active_children()], flush=True)
    time.sleep(300)


if __name__ == "__main__":
    _read_and_wait()

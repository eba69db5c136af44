"""Processes of `switchnorm` that begin with everything imported, which otherwise takes seconds of each.

One server for all tests of a process imports and does nothing else; each command is a fork of it, with a process id,
pipes, signals and an exit code of its own, and so are the trainings that a study in it starts side by side. What
depends on how an interpreter begins and ends starts a real one: what imports say, variables that are read meanwhile,
the order of sets, which the forks of one server have in common.

A command ends with the object that stands for it here, so that a test that fails leaves nothing that goes on.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import multiprocessing
import os
import random
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import numpy

#: What commands import.
IMPORTED = (
    *("pytest", "torch.distributed", "switchnorm.cli", "switchnorm.report", "switchnorm.studies"),
    *("switchnorm.training", "switchnorm.training.launch", "switchnorm.training.evaluate"),
    *("switchnorm.deploy.predict", "switchnorm.training.fit", "switchnorm.training.warm_start"),
    *("switchnorm.survey", "switchnorm.weights", "switchnorm.models"),
)


#: How variables begin that an interpreter, or a library, reads as it begins, and a fork therefore not.
READ_BEFORE = ("PYTHON", "OMP_", "MKL_", "ATEN_", "TRITON_", "LC_", "LANG")


class Forked:
    """One such process, with the methods of `subprocess.Popen` that tests use.

    Args:
        arguments: of Python: ("-m", module, ...) or (script, ...).
        cwd: where it begins.
        env: its environment; None for this process's. One thread, as everywhere in tests.
        session: whether it leads a session of its own.
        stdout, stderr: where it writes, as descriptors; None makes pipes, which `communicate` reads.
    """

    def __init__(
        self,
        arguments: Sequence[str | os.PathLike[str]],
        cwd: str | os.PathLike[str] = ".",
        env: Mapping[str, str] | None = None,
        session: bool = False,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> None:
        self.args = [str(argument) for argument in arguments]
        self.returncode: int | None = None
        address, began = _server()
        env = {**(os.environ if env is None else env), "OMP_NUM_THREADS": "1"}
        late = [name for name in {**began, **env} if name.startswith(READ_BEFORE) and began.get(name) != env.get(name)]
        if late:
            raise ValueError(f"{', '.join(late)} would change nothing in a fork; start a real process")
        self._pipes: dict[str, int] = {}
        ends = []
        for name, given in (("stdout", stdout), ("stderr", stderr)):
            if given is None:
                self._pipes[name], end = os.pipe()
            ends.append(os.dup(given) if given is not None else end)
        asked = {"arguments": self.args, "cwd": str(Path(cwd).absolute()), "session": session}
        asked["env"] = env
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.connect(address)
        socket.send_fds(self._server, [b"."], ends)
        self._server.sendall(json.dumps(asked).encode() + b"\n")
        for end in ends:
            os.close(end)
        self._answers = self._server.makefile("rb", buffering=0)
        self.pid = self._answer()

    def _answer(self) -> int:
        answer = self._answers.readline()
        if not answer:
            raise ChildProcessError(f"whoever waits for {self.args} was killed")
        return int(answer)

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        with suppress(TimeoutError):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, negative for a signal; raises `TimeoutError`."""
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._server, selectors.EVENT_READ)
                if not selector.select(timeout):
                    raise TimeoutError(f"{self.args} still runs after {timeout} s")
            self.returncode = os.waitstatus_to_exitcode(self._answer())
            self._answers.close()
            self._server.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it is still there."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait until it has ended and nobody holds its pipes: (stdout, stderr), empty where they are no pipes."""
        until = None if timeout is None else time.monotonic() + timeout
        said = _all(self._pipes.values(), until)
        self.wait(None if until is None else max(until - time.monotonic(), 0))
        out, err = (said.get(self._pipes.get(name, -1), "") for name in ("stdout", "stderr"))
        return out, err


def run(
    *arguments: str | os.PathLike[str],
    cwd: str | os.PathLike[str] = ".",
    timeout: float = 300,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Such a process to its end."""
    process = Forked(arguments, cwd, env)
    try:
        out, err = process.communicate(timeout)
    finally:
        process.kill()
    assert process.returncode is not None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def side_by_side(
    folder: Path,
    processes: int,
    *arguments: str | os.PathLike[str],
    stdout: int | None = None,
    stderr: int | None = None,
) -> list[Forked]:
    """Several that find each other, by rank; nobody looks after them."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "GLOO_SOCKET_IFNAME": "lo"}
    shared |= {"TORCHELASTIC_RUN_ID": "tests", "TORCHELASTIC_RESTART_COUNT": "0", "GROUP_RANK": "0"}
    shared |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    return [
        Forked(
            arguments,
            folder,
            {**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=stdout,
            stderr=stderr,
        )
        for rank in range(processes)
    ]


def together(
    folder: Path, processes: int, *arguments: str | os.PathLike[str], timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Several to their end, as torchrun starts them: they find each other, and one that fails ends all."""
    (out, to_out), (err, to_err) = os.pipe(), os.pipe()
    started = side_by_side(folder, processes, *arguments, stdout=to_out, stderr=to_err)
    os.close(to_out)
    os.close(to_err)

    def end_all() -> None:
        if any(each.poll() for each in started):
            for each in started:
                each.send_signal(signal.SIGTERM)

    try:
        said = _all((out, err), time.monotonic() + timeout, end_all)
        codes = [each.wait(timeout) for each in started]
    finally:
        for each in started:
            each.kill()
    command = [str(each) for each in arguments]
    return subprocess.CompletedProcess(command, next(filter(None, codes), 0), said[out], said[err])


def _free_port() -> int:
    """A port that nobody has, below those that the system gives away meanwhile."""
    while True:
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port := random.SystemRandom().randrange(20_000, 32_000)))
            return port


def _all(pipes: Iterable[int], until: float | None, between: Callable[[], None] = lambda: None) -> dict[int, str]:
    """What is read of pipes until nobody holds their other ends; closes them."""
    said = dict.fromkeys(pipes, b"")
    try:
        with selectors.DefaultSelector() as selector:
            for pipe in said:
                selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select(0.1):
                    part = os.read(key.fd, 1 << 16)
                    said[key.fd] += part
                    if not part:
                        selector.unregister(key.fd)
                between()
                if until is not None and time.monotonic() > until:
                    raise TimeoutError(f"a process still runs, and said {[*said.values()]}")
    finally:
        for pipe in said:
            os.close(pipe)
    return {pipe: content.decode() for pipe, content in said.items()}


@cache
def _server() -> tuple[str, dict[str, str]]:
    """Where the server listens, which ends with this process, and the environment that it began with."""
    address = f"\0switchnorm-tests-{os.getpid()}-{time.monotonic_ns()}"
    program = "import sys; from tests.forked import serve; serve(sys.argv[1], int(sys.argv[2]))"
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, "-c", program, address[1:], str(os.getpid())],
        cwd=Path(__file__).parents[1],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    atexit.register(server.kill)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n", "the server of forks did not start"
    return address, env


def serve(address: str, parent: int) -> None:
    """Be the server of a process: import, and fork for whoever asks."""
    for name in IMPORTED:
        importlib.import_module(name)
    import torch

    from switchnorm.studies import parallel

    parallel._CONTEXT = multiprocessing.get_context("fork")  # type: ignore[assignment]
    torch.set_num_threads(1)
    assert len(os.listdir("/proc/self/task")) == 1, "a thread of an import would be missing in the forks"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait for the commands
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind("\0" + address)
    listening.listen()
    gc.freeze()
    print("ready", flush=True)
    listening.settimeout(5)
    while os.getppid() == parent:
        with suppress(TimeoutError):
            asking, _ = listening.accept()
            asking.settimeout(None)
            if not os.fork():
                listening.close()
                _watch(asking)
            asking.close()


def _watch(asking: socket.socket) -> NoReturn:
    """Start the command, say its process id, wait for it, and say how it ended; end it when nobody hears that."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, ends, _, _ = socket.recv_fds(asking, 1, 2)
    asked = json.loads(asking.makefile("rb").readline())
    pid = os.fork()
    if not pid:
        asking.close()
        _become(asked, *ends)
    for end in ends:
        os.close(end)
    with suppress(OSError):  # whoever asked may be gone
        asking.sendall(b"%d\n" % pid)
        ended = os.pidfd_open(pid)
        if ended not in select.select([asking, ended], [], [])[0]:
            os.kill(pid, signal.SIGKILL)
            if asked["session"]:
                os.killpg(pid, signal.SIGKILL)
        asking.sendall(b"%d\n" % os.waitpid(pid, 0)[1])
    os._exit(0)


def _become(asked: dict[str, Any], out: int, err: int) -> NoReturn:
    """Be the command, as `python ARGUMENTS` is in a folder."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which `nohup` ignores in all that it starts
        if asked["session"]:
            os.setsid()
        for end, number in ((out, 1), (err, 2)):
            os.dup2(end, number)
            os.close(end)
        sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = sys.__stderr__ = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        os.chdir(asked["cwd"])
        os.environ.clear()
        os.environ.update(asked["env"])
        numpy.random.seed()  # else what draws from it unasked would draw the same in every fork
        code = _exit_code(asked["arguments"])
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
        code = code or 1
    os._exit(code & 0xFF)


def _exit_code(arguments: Sequence[str]) -> int:
    """Run a module or a script: how it ends."""
    sys.path.remove("")  # the server's, which began with a program in its command line
    first, *others = arguments
    try:
        if first == "-m":
            sys.path.insert(0, os.getcwd())
            sys.argv = others
            runpy.run_module(others[0], run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, str(Path(first).parent))
            sys.argv = [*arguments]
            runpy.run_path(first, run_name="__main__")
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        return 0 if ended.code is None else ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

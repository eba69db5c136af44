"""Commands that are forks are processes like others, and none outlives its test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import forked
from tests.forked import Forked


def script(folder: Path, program: str) -> Path:
    (folder / "program.py").write_text(program)
    return folder / "program.py"


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('why')", 1, "why\n"),
        ("raise KeyError('x')", 1, "KeyError: 'x'\n"),
        ("os.kill(os.getpid(), 9)", -9, ""),
        ("atexit.register(print, 'bye', file=sys.stderr)", 0, "bye\n"),
        ("threading.Timer(0.1, lambda: print('late', file=sys.stderr)).start()", 0, "late\n"),
    ],
)
def test_how_they_end(tmp_path: Path, end: str, code: int, said: str) -> None:
    program = f"import atexit, os, sys, threading\nprint('out', *sys.argv[1:], os.getcwd(), flush=True)\n{end}\n"
    done = forked.run(script(tmp_path, program), "a b", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, f"out a b {tmp_path}\n")
    assert done.stderr.endswith(said)
    assert ("Traceback" in done.stderr) == end.startswith("raise")


FOUND = """
import json, os, random, signal, sys
import numpy
print(json.dumps({
    "files": len(os.listdir("/proc/self/fd")) - 1,  # but the one that lists them
    "threads": len(os.listdir("/proc/self/task")),
    "signals": [signal.getsignal(each) is signal.SIG_DFL for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)],
    "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "stdin": sys.stdin.read(),
    "path": sys.path[0],
    "server's": "" in sys.path,
    "env": dict(os.environ),
    "drawn": [random.random(), numpy.random.rand()],
}))
"""


def test_they_have_nothing_of_the_servers_or_of_each_other(tmp_path: Path) -> None:
    program = script(tmp_path, FOUND)
    one, two = (json.loads(forked.run(program, env={**os.environ, "A": "b"}).stdout) for _ in range(2))
    drawn = one.pop("drawn")
    assert not {*drawn} & {*two["drawn"]}, "what should not draw from these would be the same each time"
    assert one == {
        "files": 3,
        "threads": 1,
        "signals": [True] * 3,
        "interrupt": True,
        "blocked": [],
        "stdin": "",
        "path": str(tmp_path),
        "server's": False,
        "env": {**os.environ, "A": "b", "OMP_NUM_THREADS": "1"},
    }


def gone(pid: int) -> bool:
    """Whether a process ends within seconds."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


SLEEPING = "import time\nprint('here', flush=True)\ntime.sleep(600)\n"


@pytest.mark.parametrize("session", [False, True])
def test_one_that_nobody_waits_for_any_more_is_ended(tmp_path: Path, session: bool) -> None:
    process = Forked((script(tmp_path, SLEEPING),), session=session)
    pid = process.pid
    assert process.poll() is None
    del process
    assert gone(pid)


def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    program = script(tmp_path, f"import os\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n{SLEEPING}")
    for do in (lambda: forked.run(program, timeout=1), lambda: forked.together(tmp_path, 2, program, timeout=1)):
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(TimeoutError, match=r"still runs, and said .*here"):
            do()
        assert len(os.listdir("/proc/self/fd")) == before
        assert gone(int((tmp_path / "pid").read_text()))


def test_several_end_with_the_first_that_fails(tmp_path: Path) -> None:
    program = "import os, sys, time\nsys.exit(7) if os.environ['RANK'] == '1' else time.sleep(600)\n"
    assert forked.together(tmp_path, 3, script(tmp_path, program), timeout=60).returncode in (7, -signal.SIGTERM)


@pytest.mark.sweep
def test_the_server_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """However that ends, and with it what it had started."""
    program = f"""
import os, sys
from pathlib import Path
from tests.forked import Forked
process = Forked(({str(script(tmp_path, SLEEPING))!r},))
print(process.pid, os.getpgid(process.pid), flush=True)
os.kill(os.getpid(), 9)
"""
    tests = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[1], capture_output=True, start_new_session=True
    )
    pid, group = map(int, tests.stdout.split())
    assert gone(pid)
    assert gone(-group), "the server is left"


def test_variables_that_a_fork_would_read_too_late_are_refused() -> None:
    for changes in ({"PYTHONHASHSEED": "1"}, {"ATEN_CPU_CAPABILITY": "none"}):
        with pytest.raises(ValueError, match=r"would change nothing in a fork; start a real process"):
            Forked(("-c", ""), env={**os.environ, **changes})

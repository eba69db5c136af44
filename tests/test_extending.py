"""docs/extending.md: every block of code is the file that it says, and every command does what the page says."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests import forked, pages

PAGE = "docs/extending.md"


#: Runs command lines one after the other; a process of their own, for what plugins register stays.
PROGRAM = """
import json, shlex, sys
from switchnorm.cli import main

if __name__ == "__main__":
    for command in json.loads(sys.argv[1]):
        print("$", command, flush=True)
        main(shlex.split(command))
"""

#: Asks the exported network of a user's task about a picture.
ASKING = """
import my_task, numpy, switchnorm

print(switchnorm.load("runs/ordinal/ordinal.torchscript").predict(numpy.zeros((8, 8, 1), numpy.uint8)).best)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where somebody followed the page from its first command to its last; said.txt is what the terminal showed."""
    made = tmp_path_factory.mktemp("extending")
    for code in pages.blocks(PAGE):
        (made / code.splitlines()[0].removeprefix("# ")).write_text(code)
    (made / "program.py").write_text(PROGRAM)
    (made / "asking.py").write_text(ASKING)
    commands = json.dumps([command.removeprefix("switchnorm ") for command in pages.commands(PAGE)])
    environment = {**os.environ, "XDG_CONFIG_HOME": str(made / "home")}
    done = forked.run(str(made / "program.py"), commands, cwd=made, env=environment, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    (made / "said.txt").write_text(done.stdout)
    return made


def test_the_page_has_one_of_each_kind() -> None:
    titles = re.findall(r"^## (.*)$", pages.read(PAGE), re.MULTILINE)
    assert titles == ["A normalizer", "A dataset", "A network", "A task", "A section of the report"]
    assert len(pages.blocks(PAGE)) == len(titles)


def test_all_of_it_works(folder: Path) -> None:
    said = (folder / "said.txt").read_text()
    for result in ("runs/rms: validation accuracy", "runs/stripes: validation accuracy", "runs/ordinal: closeness"):
        assert result in said
    assert "RMS + WS" in said
    assert "closeness" in said.rpartition("$ eval runs/ordinal")[2].lower()
    assert "Closeness %" in said
    asked = forked.run(str(folder / "asking.py"), cwd=folder, timeout=100)
    assert asked.stdout.strip() in set("0123456789"), asked.stdout + asked.stderr
    assert "<h2>Speed</h2>" in (folder / "report.html").read_text()


def test_what_was_trained_has_learnt(folder: Path) -> None:
    said = (folder / "said.txt").read_text()
    scores = dict(re.findall(r"^runs/(\w+): [\w ]+ ([\d.]+) %$", said, re.MULTILINE))
    assert {name: float(score) > 60 for name, score in scores.items()} == dict.fromkeys(
        ("rms", "stripes", "tiny", "ordinal"), True
    ), scores

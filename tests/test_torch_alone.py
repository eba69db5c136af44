"""Layers and surgery where nothing but torch, and what torch needs, is installed."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

import switchnorm
from switchnorm.errors import OF_TRAIN

#: What somebody does who has a loop of their own.
PROGRAM = """
import sys
sys.path[:] = [path for path in sys.path if not path.endswith("-packages")] + sys.argv[1:]
import torch
import switchnorm

model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
print(switchnorm.plan_switch(model, "gn"))
switchnorm.switch(model, "ssn+ws")
switchnorm.ghost(model, 2)
optimizer = torch.optim.SGD(switchnorm.parameter_groups(model, lr=0.1), lr=0.1)
switchnorm.SparseSchedule(optimizer, model, steps=3)
for _ in range(3):
    optimizer.zero_grad()
    model(torch.randn(4, 3, 8, 8)).square().mean().backward()
    optimizer.step()
switchnorm.calibrate(model, [torch.randn(2, 3, 8, 8)])
assert all(row.statistics for row in switchnorm.importance(model))
switchnorm.fold(switchnorm.fuse(model).eval(), size=8)
loaded = {name.partition(".")[0] for name in sys.modules}
print("loaded", *loaded & {"torchvision", "PIL", "yaml", "jsonargparse", "pytorch_lightning", "plotly", "sklearn"})
"""

#: What needs more, and says so.
MORE = """
import sys
sys.path[:] = [path for path in sys.path if not path.endswith("-packages")] + sys.argv[1:]
import switchnorm
from switchnorm.cli import main

try:
    switchnorm.load_published
except switchnorm.InputError as error:
    print(error)
print(len([*switchnorm.create_model("cifar_resnet20", norm="sn").parameters()]) > 20)
try:
    switchnorm.create_model("resnet18")
except switchnorm.InputError as error:
    print(error)
try:
    main(["train", "digits/resnet9"])
except SystemExit as ended:
    print("ended with", ended.code)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `pip install .` fills it."""
    site = tmp_path_factory.mktemp("alone") / "site"
    site.mkdir()
    for name in needs("torch", set()):
        for file in importlib.metadata.files(name) or ():
            top = site / file.parts[0]
            if not (file.parts[0] == ".." or top.exists() or file.parts[0].endswith(".pth")):
                top.symlink_to(Path(str(importlib.metadata.distribution(name).locate_file(file.parts[0]))))
    (site / "switchnorm").symlink_to(Path(switchnorm.__file__).parent)
    assert (site / "torch").exists()
    assert not (site / "yaml").exists()
    return site


def run(program: str, site: Path) -> subprocess.CompletedProcess[str]:
    """Run a program that sees this folder and the standard library."""
    command = [sys.executable, "-I", "-S", "-c", program, str(site)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=site.parent)
    assert done.returncode == 0, done.stderr
    return done


def test_they_work(site: Path) -> None:
    said = run(PROGRAM, site).stdout
    assert said.endswith("loaded\n"), said


def test_what_needs_more_names_the_extra_in_a_line(site: Path) -> None:
    done = run(MORE, site)
    needs = r"needs \w+, which is not installed; run `pip install 'switchnorm\[train\]'`\n"
    torchvision = f"networks of torchvision, and the list of all, {needs}"
    assert re.fullmatch(rf"switchnorm.load_published {needs}True\n{torchvision}ended with 2\n", done.stdout)
    # torch warns that there is no numpy.
    assert re.search(rf"^switchnorm: the command `switchnorm` {needs}", done.stderr, re.MULTILINE)


def test_the_modules_of_the_extra_are_those_that_it_installs() -> None:
    distributions = importlib.metadata.packages_distributions()
    extra = {
        re.split(r"[^\w.-]", each)[0].lower()
        for each in importlib.metadata.requires("switchnorm") or ()
        if re.search("extra == .train.", each)
    }
    found = {name: {each.lower() for each in distributions.get(name, ())} for name in OF_TRAIN}
    assert all(found.values()), found
    assert {each for names in found.values() for each in names if each in extra} == extra


def needs(name: str, found: set[str]) -> set[str]:
    """A distribution and all that it needs, as far as it is installed."""
    name = re.split(r"[^\w.-]", name)[0].lower()
    if name not in found:
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            return found
        found.add(name)
        for each in required:
            if "extra ==" not in each:
                needs(each, found)
    return found

"""Damaged files of every kind are read or refused in one line: no traceback, no memory beyond bounds, no hang."""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz.kinds import KINDS
from tests.fuzz.watch import READ, outcome

#: Damaged files of each kind in the whole sweep, and those of them that every run of the tests looks at.
SWEEP, ALWAYS = 560, 16


def fuzz(kind: str, seeds: range, folder: Path) -> Counter[str]:
    """Read files of a kind, damaged by each seed; how often each outcome came."""
    path = KINDS[kind].whole(folder)
    content, found = path.read_bytes(), Counter[str]()
    for seed in seeds:
        chance = random.Random(f"{kind} {seed}")
        damaged = KINDS[kind].damage(content, chance)
        path.write_bytes(damaged)
        try:
            ended, _, _ = outcome(lambda: KINDS[kind].read(path), len(damaged))
        except BaseException as error:
            raise AssertionError(f"{kind}, seed {seed}: {type(error).__name__}: {error}") from error
        found[ended] += 1
    path.write_bytes(content)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_are_read(tmp_path, kind):
    path = KINDS[kind].whole(tmp_path)
    KINDS[kind].read(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(tmp_path, kind):
    fuzz(kind, range(ALWAYS), tmp_path)


@pytest.mark.sweep
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_damaged_files_are_read_or_refused(tmp_path, kind):
    assert SWEEP * len(KINDS) >= 10_000
    found = fuzz(kind, range(ALWAYS, SWEEP), tmp_path)
    print(f"{kind}: {found[READ]} read, {found.total() - found[READ]} refused", file=sys.stderr)

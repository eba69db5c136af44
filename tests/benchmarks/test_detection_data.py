"""The loader of pictures with objects at a small size: it agrees with the files, and a wrong one is found."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks import detection_data
from benchmarks.runner import run_case
from switchnorm.data.detection.placing import Placing
from switchnorm.errors import InputError
from tests.data.photos import write_photo

VOC = """<annotation><filename>{name}.jpg</filename><size><width>60</width><height>40</height><depth>3</depth></size>
<object><name>cell</name><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>30</xmax><ymax>31</ymax></bndbox></object></annotation>
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four pictures with a box each, in Pascal VOC's layout."""
    names = [f"{number:02d}" for number in range(4)]
    for number, name in enumerate(names):
        write_photo(tmp_path / "JPEGImages" / f"{name}.jpg", number, width=60, height=40)
        for folder in ("Annotations", "ImageSets/Main"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "Annotations" / f"{name}.xml").write_text(VOC.format(name=name))
    for split in ("train", "val"):
        (tmp_path / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
    return tmp_path


def cases(root: Path, *arguments: str) -> list[detection_data.Case]:
    parser = argparse.ArgumentParser()
    detection_data.add_arguments(parser)
    return detection_data.cases(parser.parse_args(["--root", str(root), "--rounds", "1", *arguments]))


def test_both_pipelines_run(root: Path) -> None:
    for case in cases(root, "--sides", "30", "80"):
        outcome = run_case(case)
        assert outcome.failures == {}
        assert outcome.ratios.keys() == set(case.pairs)
        assert {row["way"] for row in outcome.rows} == {detection_data.OURS, detection_data.REFERENCE}


def test_boxes_that_lie_elsewhere_have_no_speed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = Placing._moved
    monkeypatch.setattr(Placing, "_moved", lambda self, boxes: moved(self, boxes) + 0.02)
    (case,) = cases(root, "--sides", "80")
    assert run_case(case).failures == {detection_data.OURS: "boxes differ"}


def test_what_is_missing_is_named(root: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        cases(root / "nowhere")
    with pytest.raises(InputError, match="--rounds must be 1 or more, got 0"):
        cases(root, "--rounds", "0")

"""What a detector's run leaves, and what `eval`, `predict` and `report` make of it, as people call them."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import shutil
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from switchnorm.cli import main
from switchnorm.data import create_dataset
from switchnorm.deploy.answering.box_files import BoxFiles
from switchnorm.deploy.answers import Detected
from switchnorm.runs.folder import RunFolder
from switchnorm.tasks.detection.columns import STATS
from switchnorm.tasks.detection.files import read_details
from switchnorm.training.callbacks.checkpoints import MidEpochCheckpoint
from switchnorm.training.launch import resume
from tests.report.visits import markup
from tests.tasks.detection.conftest import PICTURES, train
from tests.training.trainings import StoppedError, stopping


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def pycocotools(truth: Path, results: Path, kind: str) -> list[float]:
    """What pycocotools makes of files alone."""
    with contextlib.redirect_stdout(io.StringIO()):
        there = COCO(str(truth))
        found = json.loads(results.read_text())
        for each in found if kind == "segm" else ():
            del each["bbox"]  # whose area it would take for that of the mask
        evaluation = COCOeval(there, there.loadRes(found), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


def annotations(run: RunFolder) -> Path:
    return Path(run.config().data["root"]) / "annotations" / "val.json"


def test_pycocotools_reads_from_the_runs_file_what_the_table_says(run):
    """To the last digit: the file rounds nothing, and has COCO's own numbers of pictures and classes."""
    last = run.metrics()[-1]
    for kind, prefix in (("bbox", ""), ("segm", "mask_")):
        stats = pycocotools(annotations(run), run.path / "detections.json", kind)
        for (name, _), value in zip(STATS, stats, strict=True):
            written = last[f"val_{prefix}{name}"]
            assert float(written or -1) == pytest.approx(value, abs=1e-12), f"{kind} {name}"
    found = json.loads((run.path / "detections.json").read_text())
    assert {each["category_id"] for each in found} <= {13, 40}
    assert {each["image_id"] for each in found} <= {207 + 100 * place for place in range(PICTURES)}


def test_the_files_of_a_run_say_the_same(run):
    details = read_details(run.path)
    last = run.metrics()[-1]
    assert [each.name for each in details.classes] == ["square", "bar"]
    for name in ("ap", "mask_ap50"):
        mean = np.mean([each.rates[name] for each in details.classes])
        assert float(last[f"val_{name}"]) == pytest.approx(mean, abs=1e-6)
    for of, name in (("box", "ap"), ("mask", "mask_ap")):
        curve = details.mean_curve(of, "0.50:0.95")
        assert curve is not None
        assert np.mean(curve.precisions) == pytest.approx(float(last[f"val_{name}"]), abs=1e-6)
    assert sum(each.detections for each in details.classes) == len(
        json.loads((run.path / "detections.json").read_text())
    )
    known = json.loads(annotations(run).read_text())["annotations"]
    assert sum(each.objects for each in details.classes) == sum(not each["iscrowd"] for each in known)
    assert details.examples is not None
    assert (details.examples.epoch, details.examples.shown) == (2, 0.2)
    assert [each.name for each in details.examples.pictures] == ["val01", "val03"]
    assert details.examples.pictures[1].right == details.examples.pictures[1].missed == 0
    assert (details.examples.pictures[0].objects.width, details.examples.pictures[0].objects.height) == (64, 48)
    assert len(rows(run.path / "classes.csv")) == 2 * 2


def test_a_killed_run_has_the_files_of_one_that_was_not(recipe, run, tmp_path):
    flags = ("--train.checkpoint_minutes", "0")
    with patch.object(MidEpochCheckpoint, "on_train_batch_end", stopping(2)), pytest.raises(StoppedError):
        train(recipe, tmp_path / "run", *flags)
    with (tmp_path / "run" / "classes.csv").open("a") as file:
        file.write("2,square,0.5")  # a kill in the middle of a row
    (tmp_path / "run" / "curves.csv").unlink()
    shutil.rmtree(tmp_path / "run" / "examples")
    other, _ = resume(tmp_path / "run", quiet=True)
    for name in ("classes.csv", "curves.csv", "detections.json", "examples/examples.json"):
        assert (other.path / name).read_bytes() == (run.path / name).read_bytes(), name
    for file in (run.path / "examples").iterdir():
        assert (other.path / "examples" / file.name).read_bytes() == file.read_bytes()


def test_eval_writes_detections_and_pictures(run, tmp_path, capsys):
    flags = ["--detections", str(tmp_path / "found.json"), "--pictures", str(tmp_path / "shown"), "--worst", "2"]
    main(["eval", str(run.path), "--batch-size", "3", "--shown", "0.05", *flags])
    said = capsys.readouterr().out
    last = run.metrics()[-1]
    for title, column in (("box AP", "val_ap"), ("mask AR small", "val_mask_ar_small")):
        assert re.search(rf"^  {title} +{100 * float(last[column]):.2f} %$", said, re.MULTILINE)
    assert "box AP large" not in said, "which no object is"
    assert re.search(r"^  class +AP % +AP50 % +AP75 % +AR % +mask AP % .* objects +detections$", said, re.MULTILINE)
    assert f"{tmp_path}/found.json: " in said
    assert (tmp_path / "found.json").read_bytes() == (run.path / "detections.json").read_bytes(), "any batch size"
    table = rows(tmp_path / "shown" / "pictures.csv")
    assert [list(each) for each in table] == [["picture", "f1", "right", "missed", "wrong"]] * 2
    assert float(table[0]["f1"]) <= float(table[1]["f1"])
    assert sorted(file.name for file in (tmp_path / "shown").iterdir()) == sorted(
        ["pictures.csv", *(f"{each['picture']}.jpg" for each in table)]
    )
    with Image.open(tmp_path / "shown" / f"{table[0]['picture']}.jpg") as image:
        assert image.size in ((128, 48), (96, 64))
    main(["eval", str(run.path), *flags[:-2]])  # all, in the place of these
    assert len(rows(tmp_path / "shown" / "pictures.csv")) == PICTURES
    assert not list(tmp_path.glob(".*"))


def test_thresholds_and_the_side_change_what_is_found(run, tmp_path):
    def found(*flags: str) -> list[dict]:
        main(["eval", str(run.path), "--limit", "3", *flags, "--detections", str(tmp_path / "found.json")])
        return json.loads((tmp_path / "found.json").read_text())

    every = found()
    least = sorted(each["score"] for each in every)[len(every) // 2]
    assert found("--score-threshold", str(least)) == [each for each in every if each["score"] > least]
    assert len(found("--nms-threshold", "0.1")) < len(every)
    assert len(found("--detection.detections", "3")) == sum(
        min(3, sum(each["image_id"] == place for each in every)) for place in {each["image_id"] for each in every}
    )
    assert found("--side", "64") != every


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--flip"], "--flip is for segmentation"),
        (["--confusion", "x.csv"], "--confusion is for segmentation"),
        (["--save", "x.npz"], "--save is for classification"),
        (["--views", "ten"], "detection takes each picture once"),
        (["--worst", "3"], "--worst changes --pictures"),
        (["--score-threshold", "2"], "detection.score_threshold"),
        (["--shown", "-1"], "detection.shown"),
        (["--detections", "found.txt"], "must end with .json"),
    ],
)
def test_flags_that_mean_nothing_are_refused(run, flags, message, capsys):
    with pytest.raises(SystemExit) as error:
        main(["eval", str(run.path), *flags])
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_what_is_there_already_is_kept(run, tmp_path):
    (tmp_path / "notes.json").write_text('{"mine": 1}')
    with pytest.raises(SystemExit):
        main(["eval", str(run.path), "--detections", str(tmp_path / "notes.json")])
    assert (tmp_path / "notes.json").read_text() == '{"mine": 1}'
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.jpg").write_bytes(b"")
    with pytest.raises(SystemExit):
        main(["eval", str(run.path), "--pictures", str(tmp_path / "mine")])
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["a.jpg"]


def test_predict_draws_and_writes_what_eval_finds(run, tmp_path, capsys):
    folder = Path(run.config().data["root"]) / "val"
    shutil.copytree(folder, tmp_path / "in")
    (tmp_path / "in" / "val02x.png").write_bytes(b"no picture")
    with pytest.raises(SystemExit) as error:
        main(["predict", str(run.path), str(tmp_path / "in"), "--checkpoint", "last", "--out", str(tmp_path / "out")])
    assert error.value.code == 2
    said = capsys.readouterr()
    assert "1 of 6 pictures could not be predicted; cannot read" in said.err
    assert f"{tmp_path}/in/val00.png: " in said.out
    made = {f"val{place:02}_detections.jpg" for place in range(PICTURES)}
    assert {file.name for file in (tmp_path / "out").iterdir()} == made | {"detections.json", "detections.csv"}
    content = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [each["name"] for each in content["categories"]] == ["square", "bar"]
    assert len(content["images"]) == PICTURES
    evaluated = json.loads((run.path / "detections.json").read_text())
    kept = ("bbox", "score", "segmentation")
    assert [[each[key] for key in kept] for each in content["annotations"]] == [
        [each[key] for key in kept] for each in evaluated
    ]
    table = rows(tmp_path / "out" / "detections.csv")
    assert len(table) == len(evaluated)
    x, y, width, height = evaluated[0]["bbox"]
    first = [float(table[0][key]) for key in ("x1", "y1", "x2", "y2")]
    assert first == pytest.approx([x, y, x + width, y + height], abs=0.006)


def test_a_name_that_is_no_unicode_stops_no_picture(run, tmp_path):
    (tmp_path / "in").mkdir()
    for name in (b"a.png", b"caf\xe9.png"):
        shutil.copy(Path(run.config().data["root"]) / "val/val00.png", tmp_path / "in" / os.fsdecode(name))
    main(["predict", str(run.path), str(tmp_path / "in"), "--checkpoint", "last", "--out", str(tmp_path / "out")])
    found = {row["picture"] for row in rows(tmp_path / "out" / "detections.csv")}
    assert found == {f"{tmp_path}/in/a.png", f"{tmp_path}/in/caf\\udce9.png"}


def test_predict_leaves_no_empty_folder(run, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(SystemExit):
        main(["predict", str(run.path), str(tmp_path / "broken.png"), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_what_predict_writes_is_a_data_set(run, tmp_path):
    """Its annotations can be corrected and trained on."""
    folder = Path(run.config().data["root"])
    main(["predict", str(run.path), str(folder / "train"), "--out", str(tmp_path / "out")])
    data = create_dataset(
        name="coco", root=str(folder), test_json=str(tmp_path / "out" / "detections.json"), test_pictures="/"
    )
    assert data.test_size == 4
    assert data.classes == ("square", "bar")


def test_nothing_stays_where_nothing_can_be_predicted(run, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(SystemExit):
        main(["predict", str(run.path), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_predictions_wait_on_the_disk(run, tmp_path):
    """Of a picture that is written, nothing is kept in memory but a line of the first ten."""
    files = [Path(run.config().data["root"]) / "val" / "val01.png"] * 30
    (tmp_path / "out").mkdir()
    written = BoxFiles(files, tmp_path / "out", ("square", "bar"), 0.5)
    box, label, score = np.array([[1, 2, 9, 9]], np.float32), np.array([2]), np.array([0.75], np.float32)
    found = Detected(box, label, ("bar",), score, None, (48, 64), ("square", "bar"))
    for place in range(1, 30):
        with Image.open(files[place]) as picture:
            written.add(place, picture.convert("RGB"), found)
    lines = written.finish()
    assert lines[0] == f"{files[1]}: 1 bar"
    assert len(lines) == 11
    assert lines[-1].startswith("and 19 more pictures")
    content = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [each["id"] for each in content["annotations"]] == list(range(1, 30))


def test_the_report_has_its_sections(run, tmp_path):
    text = markup(tmp_path, run.path)
    for title in ("Sizes of objects", "Pictures", "Precision over recall", "Class by class"):
        assert f"<h2>{title}</h2>" in text
    for part in ("Body", "Neck", "Box head", "Mask head"):
        assert f"<h4>{part}</h4>" in text
    assert "Masks at overlap 0.75" in text
    assert "\u00a0missed, " in text


def test_predict_names_pictures_that_would_share_a_file(run, tmp_path, capsys):
    for name in ("a.png", "a.jpg"):
        Image.new("RGB", (64, 48)).save(tmp_path / name)
    with pytest.raises(SystemExit) as error:
        main(["predict", str(run.path), str(tmp_path / "a.png"), str(tmp_path / "a.jpg"), "--out", str(tmp_path / "o")])
    assert error.value.code == 2
    assert "would share the picture a_detections.jpg; rename one" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()

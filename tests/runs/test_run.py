"""Reading run folders: every documented file, and one clear line about each that is missing or damaged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from switchnorm.errors import InputError
from switchnorm.report import load_run
from switchnorm.runs.run import load_runs
from tests.report.conftest import EPOCHS, LAYERS, STATISTICS, Make


def test_a_run_is_what_its_files_say(make_run: Make) -> None:
    run = load_run(make_run("ssn", seed=1))
    assert (run.name, run.norm, run.seed, run.finished) == ("ssn-1", "ssn", 1, True)
    assert run.settings["optimizer.lr"] == 0.1
    assert run.provenance["git"]["revision"] == "21584d7"
    assert [row["epoch"] for row in run.metrics] == list(range(1, EPOCHS + 1))
    assert run.measured("val_accuracy")[EPOCHS] == pytest.approx(0.81)


def test_importance_is_kept_for_all_epochs_in_the_order_of_depth(make_run: Make) -> None:
    run = load_run(make_run("ssn"))
    assert list(run.importance) == list(range(1, EPOCHS + 1))
    assert [layer.layer for layer in run.choices] == LAYERS
    assert run.choices == run.importance[EPOCHS] != run.importance[1]
    for layer in run.importance[1]:
        assert layer.statistics == STATISTICS
        assert sum(layer.mean) == pytest.approx(1)
        assert sum(layer.var) == pytest.approx(1)


def test_a_network_that_mixes_nothing_has_no_importance(make_run: Make) -> None:
    assert load_run(make_run("bn")).choices == []


def test_what_was_not_measured_or_is_not_finite_is_none(make_run: Make) -> None:
    path = make_run("bn")
    (path / "metrics.csv").write_text("epoch,train_loss,val_accuracy\n1,nan,\n2,inf,0.5\n")
    run = load_run(path)
    assert run.metrics[0] == {"epoch": 1, "train_loss": None, "val_accuracy": None}
    assert run.measured("val_accuracy") == {2: 0.5}
    assert run.measured("radius") == {}


@pytest.mark.parametrize(
    ("processes", "sync", "samples"), [(None, False, 32), (1, False, 32), (4, False, 8), (4, True, 32)]
)
def test_no_samples_per_gpu_means_the_share_of_a_process(
    make_run: Make, processes: int | None, sync: bool, samples: int
) -> None:
    path = make_run("bn", settings={"train.samples_per_gpu": None, "train.sync": sync})
    record = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps({**record, "processes": processes}))
    assert load_run(path).settings["train.samples_per_gpu"] == samples


def test_no_samples_per_gpu_means_the_whole_batch(make_run: Make) -> None:
    run = load_run(make_run("bn", settings={"train.samples_per_gpu": None}))
    assert run.settings["train.samples_per_gpu"] == 32


def test_a_norm_that_is_left_to_the_network_is_the_networks_own(make_run: Make) -> None:
    from switchnorm.models.registry import FAMILIES

    own = {name: family.norm or "built-in" for family in FAMILIES for name in family.names}
    path = make_run("bn", settings={"model.norm": None})
    config = (path / "config.yaml").read_text()
    for name, norm in {**own, "resnet50": "built-in", "timm:resnet50": "built-in"}.items():
        (path / "config.yaml").write_text(config.replace("cifar_resnet20", name))
        run = load_run(path)
        assert (name, run.norm, run.settings["model.norm"]) == (name, norm, norm)


def test_norms_of_parts_are_in_the_normalizer_s_name(make_run: Make) -> None:
    path = make_run("sn", settings={"model.norms": {"body": "bn", "mask": "sn"}})
    assert load_run(path).norm == load_run(path).appearance.name == "sn (body bn)"
    config = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(config.replace("body: bn", "body: 3"))
    with pytest.raises(InputError, match=r"model\.norms is .*, expected names of normalizers by part"):
        load_run(path)


def test_a_running_run_can_be_read(make_run: Make) -> None:
    path = make_run("bn")
    text = (path / "run.json").read_text().replace('"finished"', '"running"')
    (path / "run.json").write_text(text)
    assert not load_run(path).finished


HEADER = "epoch,layer,moment,statistic,importance\n"
DAMAGE: dict[str, tuple[str, str | bytes | None, str]] = {
    "no config": ("config.yaml", None, "is not a run folder: it has no config.yaml"),
    "config is not YAML": ("config.yaml", "model: [", "config.yaml, line 1, column 9: no valid YAML"),
    "config is a list": ("config.yaml", "- 1", "expected keys such as 'model'"),
    "config without a network": ("config.yaml", "model: {conv: ws}", "expected the key model.name"),
    "no provenance": ("run.json", None, "run.json is missing: a run folder holds"),
    "provenance is not JSON": ("run.json", '{"seed": ', "line 1 column 10 (char 9); expected the provenance of a run"),
    "provenance is a list": ("run.json", "[]", "expected a JSON object, got list"),
    "no metrics": ("metrics.csv", None, "metrics.csv is missing"),
    "metrics are empty": ("metrics.csv", "", "must name the column 'epoch'"),
    "no finished epoch": ("metrics.csv", "epoch,val_accuracy\n", "at least one finished epoch"),
    "metrics without epochs": ("metrics.csv", "step,val_accuracy\n1,0.5\n", "must name the column 'epoch'"),
    "a row without its epoch": ("metrics.csv", "epoch,step\n,1\n", "line 2: epoch is '', expected a whole number"),
    "a word for a number": ("metrics.csv", "epoch,step\n0,one\n", "line 2: step is 'one', expected a number"),
    "a row cut short": ("metrics.csv", "epoch,step\n0,1\n1\n", "line 3: expected 2 values"),
    "a row too long": ("metrics.csv", "epoch,step\n0,1,2\n", "line 2: expected 2 values"),
    "metrics are not text": ("metrics.csv", b"\xff\xfe\x00", "line 1: expected text in UTF-8"),
    "importance without a column": ("importance.csv", "epoch,layer\n", "must name the column 'moment'"),
    "an unknown moment": ("importance.csv", HEADER + "0,a,std,batch,1\n", "expected 'mean' or 'var'"),
    "importance is not a number": (
        "importance.csv",
        HEADER + "0,a,mean,batch,nan\n",
        "line 2: importance is 'nan', expected a fraction",
    ),
    "half a layer": ("importance.csv", HEADER + "0,a,mean,batch,1\n", "layer 'a' must list the same statistics"),
}


@pytest.mark.parametrize(("name", "text", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named_in_one_line(make_run: Make, name: str, text: str | bytes | None, message: str) -> None:
    path = make_run("sn")
    if text is None:
        (path / name).unlink()
    else:
        (path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as error:
        load_run(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_of_run_folders_says_what_to_give(make_run: Make) -> None:
    root = make_run("sn").parent
    with pytest.raises(InputError, match=r"the folders inside it are: give .*\*$"):
        load_run(root)


@pytest.mark.parametrize("make", [lambda path: path / "none", lambda path: path / "config.yaml"])
def test_a_path_that_is_no_folder_is_refused(make_run: Make, make: Callable[[Path], Path]) -> None:
    with pytest.raises(InputError, match="is not a run folder"):
        load_run(make(make_run("sn")))


def test_the_room_needs_no_torch() -> None:
    """An empty package of that name stands in for `switchnorm`, which itself may import torch."""
    code = f"""
import sys, types
package = sys.modules["switchnorm"] = types.ModuleType("switchnorm")
package.__path__ = [{str(Path(__file__).parents[2] / "switchnorm")!r}]
import switchnorm.report
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_each_run_counts_once_by_whatever_path_it_is_given(make_run: Make, tmp_path: Path) -> None:
    path, other = make_run("sn"), make_run("sn", seed=1)
    (tmp_path / "link").symlink_to(path)
    found = load_runs([path, path / ".." / path.name, other, tmp_path / "link"])
    assert [run.path for run in found] == [path, other]
    copied = shutil.copytree(path, tmp_path / "copied")
    with pytest.raises(InputError, match=f"copied is a copy of .*{path.name}, and no second training"):
        load_runs([path, copied])

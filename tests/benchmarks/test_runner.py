"""No speed without the right result; and what a run records."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import command, record
from benchmarks.agreement import MismatchError, require_agreement
from benchmarks.case import Case, Pair, Way
from benchmarks.measure import Effort
from benchmarks.runner import run_case, summed_up


def wrong() -> None:
    raise MismatchError("y differs by 1 where the largest number is 2")


def must_not_run() -> None:
    pytest.fail("timed in spite of a wrong result")


def case(shape: str = "2x3", *, broken: bool = False, target: float = 1e6) -> Case:
    other = Way(must_not_run, check=wrong) if broken else Way(lambda: None, facts=lambda: {"peak_bytes": 30.0})
    ways = {"base": Way(lambda: None, facts=lambda: {"peak_bytes": 20.0}), "other": other}
    return Case(
        facts={"job": "layer", "shape": shape, "layout": "contiguous"},
        ways=lambda: ways,
        pairs=(Pair("other", "base", at_most=target, headline=True), Pair("other", "base", "peak_bytes", label="half")),
        effort=Effort(fewest=3, most=3),
    )


def test_a_wrong_result_has_no_speed() -> None:
    outcome = run_case(case(broken=True))
    assert [row["way"] for row in outcome.rows] == ["base"]
    assert outcome.ratios == {}
    assert outcome.failures == {"other": "y differs by 1 where the largest number is 2"}


def test_a_way_that_is_right_has_time_facts_and_ratios() -> None:
    outcome = run_case(case())
    assert [row["way"] for row in outcome.rows] == ["base", "other"]
    assert outcome.rows[1]["peak_bytes"] == 30
    assert outcome.rows[1]["rounds"] == 3
    assert len(outcome.rows[1]["ratios"]["base"]) == 3
    assert [ratio.value for ratio in outcome.ratios.values()][1] == 1.5


def test_shapes_are_summed_up_and_settings_are_not() -> None:
    summaries = summed_up([run_case(case("2x3")), run_case(case("4x5"))])
    times, memory = summaries
    assert times["cases"] == memory["cases"] == 2
    assert "shape" not in times
    assert (times["met"], times["headline"], times["over"]) == (True, True, "base")
    assert (memory["ratio"], memory["over"]) == (1.5, "half")
    assert "met" not in memory


@pytest.mark.parametrize("error", [1e-3, float("nan")])
def test_agreement(error: float) -> None:
    truth = torch.tensor([1.0, -100.0], dtype=torch.float64)
    require_agreement({"y": truth.float(), "none": None}, {"y": truth, "none": None}, 1e-4)
    require_agreement({"y": torch.zeros(2)}, {"y": None}, 1e-4)
    with pytest.raises(MismatchError, match="y differs"):
        require_agreement({"y": truth.float() + error * 100}, {"y": truth}, 1e-4)
    with pytest.raises(MismatchError, match="y differs"):
        require_agreement({"y": None}, {"y": truth}, 1e-4)


def test_what_cancels_agrees_by_the_size_of_its_terms() -> None:
    truth = {"sum": torch.tensor([0.01], dtype=torch.float64), "terms": torch.tensor([10.0], dtype=torch.float64)}
    found = {"sum": torch.tensor([0.0105]), "terms": torch.tensor([10.0])}
    require_agreement(found, truth, 1e-4, {"sum": "terms"})
    with pytest.raises(MismatchError, match="sum differs"):
        require_agreement(found, truth, 1e-4)


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A suite named "fake", and results that go into a folder of their own."""
    fake = SimpleNamespace(
        __doc__="A suite.", add_arguments=lambda parser: None, partial=lambda options: False, cases=lambda _: [case()]
    )
    monkeypatch.setitem(command.SUITES, "fake", fake)
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    return fake


def test_a_whole_run_is_recorded(suite: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["fake"])
    written = json.loads((tmp_path / "fake.json").read_text())
    assert written["command"] == "python -m benchmarks fake"
    assert {"date", "cpu", "threads", "versions"} <= written.keys()
    assert [row["way"] for row in written["measurements"]] == ["base", "other"]
    assert len(written["ratios"]) == 2
    assert "[1/1] layer, 2x3, contiguous" in capsys.readouterr().out


def test_a_partial_run_is_recorded_only_where_it_is_told(suite: Any, tmp_path: Path) -> None:
    suite.partial = lambda options: True
    command.main(["fake"])
    assert list(tmp_path.iterdir()) == []
    command.main(["fake", "--json", str(tmp_path / "own" / "x.json")])
    assert json.loads((tmp_path / "own" / "x.json").read_text())["command"] == "python -m benchmarks fake --json PATH"


def test_a_wrong_result_fails_the_run(suite: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite.cases = lambda _: [case(broken=True), case("4x5")]
    with pytest.raises(SystemExit) as exit_:
        command.main(["fake"])
    assert exit_.value.code == 1
    assert list(tmp_path.iterdir()) == []
    out, err = capsys.readouterr()
    assert "other  FAILED, no speed: y differs by 1" in out
    assert "layer, 2x3, contiguous: other: y differs by 1" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["layer"], "invalid choice: 'layer'"),
        (["layers", "--shapes", "3x4"], "'3x4' is no shape; write four numbers as 16x256x56x56"),
        (["layers", "--device", "cpu", "--graphs"], "--graphs needs CUDA"),
        (["networks", "--model", "resnet5"], "did you mean 'resnet50'"),
        (["networks", "--rounds", "0"], "must be 1 or more"),
        (["data", "--rounds", "0"], "must be 1 or more"),
        (["table", "--page", "nowhere.md"], "nowhere.md does not exist"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        command.main(arguments)
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1

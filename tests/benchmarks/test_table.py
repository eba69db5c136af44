"""The tables of docs/speed.md: what the records hold, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.table import END, START, rewrite, tables
from switchnorm.errors import InputError

MACHINE = {"cpu": "a CPU", "threads": 2, "versions": {"torch": "9.9"}}


def ratio(of: str, layout: str, value: float, **more: Any) -> dict[str, Any]:
    return {
        **{"job": "layer", "phase": "forward + backward", "layout": layout, "dtype": "float32"},
        **{"of": of, "over": "BatchNorm2d", "quantity": "time", "ratio": value, "low": 0.5, "high": 1.5, "cases": 20},
        **{"headline": True, **more},
    }


def put(folder: Path, name: str, *ratios: dict[str, Any], **machine: Any) -> None:
    (folder / name).write_text(json.dumps({**MACHINE, **machine, "measurements": [], "ratios": ratios}))


def test_without_records_there_are_no_rows(tmp_path: Path) -> None:
    assert tables(tmp_path) == ""


def test_layouts_stand_side_by_side_and_missed_targets_are_seen(tmp_path: Path) -> None:
    put(
        tmp_path,
        "layers.json",
        ratio("SN", "contiguous", 0.97, at_most=1.0, met=True),
        ratio("SN", "channels last", 1.237, at_most=1.0, met=False),
        ratio("SN, reference", "contiguous", 3.0),
        ratio("SN", "contiguous", 7.0, headline=False),
    )
    assert tables(tmp_path).splitlines() == [
        "| a CPU, 2 threads, torch 9.9 | times that of | contiguous | channels last | target |",
        "|---|---|---|---|---|",
        "| SN | BatchNorm2d | 0.97 (0.50–1.50) | 1.24 (0.50–1.50) **missed** | at most 1.00 |",
        "| SN, reference | BatchNorm2d | 3.00 (0.50–1.50) |  |  |",
        "",
    ]


def test_networks_follow_layers_and_the_gpu_follows_the_cpu(tmp_path: Path) -> None:
    network = {"job": "resnet50", "phase": "training step", "batch": 16, "over": "BN"}
    put(tmp_path, "layers.json", ratio("SN", "contiguous", 1.0))
    memory = {"quantity": "peak_bytes", "low": 1.01, "high": 1.01}
    put(tmp_path, "networks.json", ratio("SN", "contiguous", 1.01, **network, **memory))
    forward = {"phase": "forward", "dtype": "bfloat16"}
    put(tmp_path, "layers-cuda.json", ratio("SN", "channels last", 0.8, **forward), gpus=["a GPU"])
    found = tables(tmp_path).splitlines()
    assert found[3] == "| SN, resnet50, training step, batch 16, peak memory | BN | 1.01 |  |  |"
    assert found[5].startswith("| a GPU, torch 9.9 |")
    assert found[7] == "| SN, forward, bfloat16 | BatchNorm2d |  | 0.80 (0.50–1.50) |  |"


def test_only_what_stands_between_the_markers_changes(tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    page.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    put(tmp_path, "layers.json", ratio("SN", "contiguous", 1.0))
    for _ in range(2):
        rewrite(page, tmp_path)
        assert page.read_text() == f"before\n{START}\n{tables(tmp_path)}{END}\nafter\n"
    (tmp_path / "layers.json").unlink()
    rewrite(page, tmp_path)
    assert page.read_text() == f"before\n{START}\n{END}\nafter\n"


def test_no_place_for_the_table_and_a_broken_record(tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    page.write_text(f"no end: {START}\n")
    with pytest.raises(InputError, match="no place for the table"):
        rewrite(page, tmp_path)
    page.write_text(f"{START}{END}")
    (tmp_path / "layers.json").write_text("{")
    with pytest.raises(InputError, match=r"layers\.json is no record"):
        rewrite(page, tmp_path)


def test_exported_networks_have_runtimes_side_by_side(tmp_path: Path) -> None:
    network = {"network": "resnet50", "over": "bn", "quantity": "cpu_time"}
    put(
        tmp_path,
        "deploy.json",
        ratio("sn", "contiguous", 1.31, **network, runtime="onnxruntime", at_most=1.57, met=True),
        ratio("sn", "contiguous", 1.276, **network, runtime="openvino", at_most=1.26, met=False),
        ratio("gn", "contiguous", 1.05, **network, runtime="eager"),
        ratio("gn", "contiguous", 9.0, **{**network, "quantity": "nodes"}, runtime="onnxruntime"),
    )
    assert tables(tmp_path).splitlines() == [
        "| folded, over bn | onnxruntime | openvino | eager |",
        "|---|---|---|---|",
        "| resnet50, sn | 1.31 (at most 1.57) | 1.28 (at most 1.26) **missed** |  |",
        "| resnet50, gn |  |  | 1.05 |",
        "",
    ]

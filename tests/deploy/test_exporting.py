"""Files compute what networks do, say what they are, and are whole or not there."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from switchnorm import InputError
from switchnorm.deploy import exporting
from switchnorm.deploy.checks import pictures
from switchnorm.deploy.description import Description
from switchnorm.deploy.exported import ExportWarning
from switchnorm.deploy.exporting import export
from switchnorm.deploy.formats import FORMATS, Format, format_of
from switchnorm.deploy.pools import AnySizePools
from switchnorm.deploy.runtimes.harmless import harmless
from switchnorm.deploy.sizes import try_sizes
from tests.deploy.nets import CLASSES, classifier, described, shown

ANY = ("batch", "height", "width")


def images(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def expected(network: nn.Module, pixels: Tensor, about: Description) -> np.ndarray:
    with torch.no_grad():
        return network.double().eval()(shown(pixels, about).double()).numpy()


def largest_error(found: np.ndarray, wanted: np.ndarray) -> float:
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("suffix", [".onnx", pytest.param(".xml", marks=pytest.mark.sweep), ".pt2", ".torchscript"])
def test_a_file_of_open_sizes_is_right_at_sizes_that_it_was_never_run_at(tmp_path: Path, suffix: str) -> None:
    network, about = classifier(), described(order="bgr" if suffix == ".onnx" else "rgb")
    path = tmp_path / f"net{suffix}"
    done = export(network, path, dynamic=ANY, description=about)
    assert done.outputs == ("logits",)
    assert len({check.shape for check in done.checks}) == 3
    assert network.training
    runtime = format_of(path).open(path)
    assert runtime.description == done.description
    assert runtime.description.classes == CLASSES
    for shape in ((1, 3, 17, 40), (5, 3, 38, 19)):
        pixels = images(*shape)
        found = runtime(pixels.numpy())
        assert list(found) == ["logits"]
        assert found["logits"].dtype == np.float32
        assert largest_error(found["logits"], expected(network, pixels, about)) < 2e-6
    assert sorted(tmp_path.iterdir()) == sorted(done.files)


def test_others_need_nothing_of_ours_to_run_a_file_of_onnx(tmp_path: Path) -> None:
    network, about = classifier(nn.BatchNorm2d), described()
    path = export(network, tmp_path / "net.onnx", description=about).path
    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=True)
    assert [each.dim_param or each.dim_value for each in model.graph.input[0].type.tensor_type.shape.dim] == [
        *("batch", 3, 20, 20)
    ]
    assert str(Path(__file__).parent) not in str(model)  # nor where the exporter's machine keeps it
    session = onnxruntime.InferenceSession(str(path))
    pixels = images(3, 3, 20, 20)
    (found,) = session.run(["logits"], {"images": pixels.numpy()})
    assert largest_error(found, expected(network, pixels, about)) < 2e-6
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["names"]) == list(CLASSES)
    assert metadata["task"] == "classification"
    assert json.loads(metadata["mean"]) == [120, 110, 100]
    assert json.loads(metadata["size"]) == [20, 20]
    assert len(metadata["weights_sha256"]) == 64
    assert Description.from_json(metadata["switchnorm"], "it").size == (20, 20)


@pytest.mark.sweep  # importing ExecuTorch takes ten seconds
def test_executorch_takes_one_picture_of_one_size(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4))
    about = described(8)
    path = export(network, tmp_path / "net.pte", description=about).path
    runtime = format_of(path).open(path)
    pixels = images(1, 3, 8, 8)
    assert largest_error(runtime(pixels.numpy())["logits"], expected(network, pixels, about)) < 2e-6
    with pytest.raises(InputError, match="this file takes one"):
        runtime(images(2, 3, 8, 8).numpy())
    with pytest.raises(InputError, match="this file takes 8x8"):
        runtime(images(1, 3, 9, 8).numpy())
    with pytest.raises(InputError, match="this file takes uint8"):
        runtime(np.zeros((1, 3, 8, 8), np.float32))
    path.with_suffix(".json").unlink()
    with pytest.raises(InputError, match=r"keep the two files together"):
        format_of(path).open(path)


class Several(nn.Module):
    """A network of others: more inputs to its outputs than one, in containers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, object]:
        maps = self.conv(x)
        return {"maps": [maps, F.avg_pool2d(maps, 2)], "total": maps.mean((1, 2, 3))}


def test_a_network_of_no_known_task_gives_what_it_returns(tmp_path: Path) -> None:
    network = Several()
    done = export(network, tmp_path / "net.pt2", size=(12, 10))
    assert done.description.raw
    assert done.outputs == ("maps_0", "maps_1", "total")
    x = torch.randn(2, 1, 12, 10)
    found = format_of(done.path).open(done.path)(x.numpy())
    answer = network(x)
    torch.testing.assert_close(torch.from_numpy(found["maps_1"]), answer["maps"][1])
    torch.testing.assert_close(torch.from_numpy(found["total"]), answer["total"])


@pytest.mark.parametrize("half", [{"half": True}, {"int8": list(pictures((8, 3, 20, 20), raw=False, seed=1))}])
@pytest.mark.parametrize("suffix", [".onnx", pytest.param(".xml", marks=pytest.mark.sweep)])
def test_fewer_bits_make_smaller_files_that_answer_alike(tmp_path: Path, suffix: str, half: dict[str, object]) -> None:
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU())
    network = nn.Sequential(wide, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 4))
    about = described()
    full = export(network, tmp_path / f"full{suffix}", description=about)
    done = export(network, tmp_path / f"less{suffix}", description=about, warn=False, **half)
    weights = slice(1, None) if suffix == ".xml" else slice(None)
    sizes = [sum(file.stat().st_size for file in each.files[weights]) for each in (full, done)]
    assert sizes[1] < (0.6 if "half" in half else 0.75) * sizes[0]
    pixels = torch.from_numpy(pictures((16, 3, 20, 20), raw=False, seed=2))
    found = format_of(done.path).open(done.path)(pixels.numpy())["logits"]
    wanted = expected(network, pixels, about)
    assert found.dtype == np.float32
    assert 1e-6 < np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < (2e-3 if "half" in half else 0.1)
    assert (done.description.half, done.description.int8) == ("half" in half, "int8" in half)


class Baked(nn.Module):
    """A network that takes its first picture's size for a constant, where nothing raises."""

    def __init__(self) -> None:
        super().__init__()
        self.sides: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        total = x.sum((2, 3))
        return total / (x.shape[2] * x.shape[3] if isinstance(x.shape[2], int) else 400)


def test_a_file_that_computes_something_else_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"mine")
    with pytest.raises(InputError, match=r"does not compute what the network does.*3x16x16|.*nothing was written"):
        export(Baked(), path, size=20, dynamic=ANY, channels=3, force=True)
    assert path.read_bytes() == b"mine"
    assert [each.name for each in tmp_path.iterdir()] == ["net.onnx"]


def test_a_size_that_a_network_needs_is_found_and_said(tmp_path: Path) -> None:
    class Divisible(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.Conv2d(3, 4, 3, 4, 1), nn.ConvTranspose2d(4, 4, 4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.up(self.down(x)) + x[:, :1]

    with pytest.warns(ExportWarning, match="multiples of 4"):
        done = export(Divisible(), tmp_path / "net.pt2", size=20, dynamic=ANY)
    assert all(side % 4 == 0 for check in done.checks for side in check.shape[2:])
    with pytest.raises(InputError, match="fails on images of 21x21"):
        export(Divisible(), tmp_path / "other.pt2", size=21)
    with pytest.raises(InputError, match="leave height and width out of dynamic"):
        export(nn.Sequential(nn.Flatten(), nn.Linear(300, 2)), tmp_path / "o.pt2", size=10, dynamic=ANY, channels=3)


def test_shapes_differ_in_all_that_stays_open() -> None:
    found = try_sizes(lambda shape: shape, 3, (224, 224), ANY)
    assert found.shapes == ((2, 3, 225, 227), (1, 3, 179, 179), (3, 3, 291, 291))
    assert try_sizes(lambda shape: shape, 3, (30, 40), ("width",), 8).shapes[0] == (1, 3, 30, 56)


@pytest.mark.parametrize(
    ("path", "arguments", "said"),
    [
        ("net.onx", {}, "suffix '.onx' is unknown; did you mean '.onnx'"),
        ("net.onnx", {"format": "onyx"}, "format 'onyx' is unknown; did you mean 'onnx'"),
        ("net.onnx", {"format": "pt2"}, "ends with .pt2, got"),
        ("net.pte", {"dynamic": ["batch"]}, "takes no 'dynamic'; leave it out, or choose from onnx, openvino, pt2"),
        ("net.pt2", {"int8": "x"}, "takes no 'int8'; leave it out, or choose from onnx, openvino"),
        ("net.onnx", {"int8": "x", "half": True}, "half and int8"),
        ("net.onnx", {"int8": "nowhere"}, "int8: picture 'nowhere' is missing"),
        ("net.onnx", {"dynamic": ["heigth"]}, "did you mean 'height'"),
        ("net.onnx", {"dynamic": "batch,widht"}, "did you mean 'width'"),
        ("net.onnx", {"dynamic": True}, "dynamic True must name what stays open"),
        ("net.onnx", {"channels": 5}, "channels is 5, and pictures are prepared with 3"),
        ("net.onnx", {"channels": 0}, "channels 0 must be a number of channels"),
        ("net.onnx", {"checkpoint": "last"}, "checkpoint 'last' is of a run"),
        ("net.onnx", {"description": replace(described(), classes=("a", "b"))}, "tells 4 classes apart, and 2 are"),
        ("net.onnx", {"description": replace(described(), task="segmentation")}, "'segmentation' has (N, K, h, w)"),
        ("net.onnx", {"size": (3, 4, 5)}, "size (3, 4, 5) is no size of pictures"),
        ("net.onnx", {"size": 0}, "size 0 is no size of pictures"),
        ("no/net.onnx", {}, "does not exist"),
    ],
)
def test_bad_arguments(tmp_path: Path, path: str, arguments: dict[str, object], said: str) -> None:
    with pytest.raises(InputError) as raised:
        export(classifier(), tmp_path / path, **{"description": described(), **arguments})
    assert said in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_open_dimensions_may_come_one_by_one(tmp_path: Path) -> None:
    done = export(
        classifier(), tmp_path / "net.torchscript", dynamic=iter(["height", "batch"]), description=described()
    )
    assert done.description.dynamic == ("batch", "height")


class Named(nn.Module):
    """A network that returns something under each name."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.conv, self.names = nn.Conv2d(3, 4, 3), names

    def forward(self, x: Tensor) -> dict[str, object]:
        y = self.conv(x).mean((2, 3))
        return {name: {"b": y} if name == "nested" else y + place for place, name in enumerate(self.names)}


def test_outputs_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "net.torchscript"
    with pytest.raises(InputError, match="features, scores, and nothing says which of them is the logits"):
        export(Named("features", "scores"), path, description=described())
    with pytest.raises(InputError, match="'nested_b', a name that two outputs would have"):
        export(Named("nested", "nested_b"), path, size=20)
    with pytest.raises(InputError, match="'images', a name that the input has"):
        export(Named("images"), path, size=20)
    assert export(Named("features", "logits"), path, description=described()).outputs == ("logits",)


def test_a_network_without_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"0.weight is on the meta device and has no values"):
        export(classifier(nn.BatchNorm2d).to("meta"), tmp_path / "net.pt2", description=described())
    with pytest.raises(InputError, match=r"0.weight of the network is lazy and not initialised"):
        export(nn.Sequential(nn.LazyConv2d(4, 3)), tmp_path / "net.pt2", size=20, channels=3)


def test_a_file_is_replaced_where_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "net.torchscript"
    path.write_bytes(b"mine")
    with pytest.raises(InputError, match="exists"):
        export(classifier(), path, description=described())
    export(classifier(), path, description=described(), force=True)
    assert zipfile.is_zipfile(path)


def test_a_package_that_is_missing_is_named_with_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("switchnorm.deploy.formats.importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'switchnorm\[export\]'"):
        export(classifier(), tmp_path / "net.onnx")


def test_what_writers_raise_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(job: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise InputError(f"{path} is impossible")

    monkeypatch.setattr(Format, "write", property(lambda self: fail))
    with pytest.raises(InputError) as raised:
        export(classifier(), tmp_path / "net.pt2", description=described())
    assert str(raised.value) == f"{tmp_path / 'net.pt2'} is impossible"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".pt2", ".torchscript"])
def test_a_full_disk_is_an_error_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    def full(path: Path, content: object) -> int:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    said = f"net{suffix} cannot be written: No space left on device; free some space there"
    with pytest.raises(InputError, match=said):
        export(nn.Conv2d(3, 2, 3), tmp_path / f"net{suffix}", size=12)
    assert not list(tmp_path.iterdir())


def test_a_writer_that_knows_no_full_disk_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(job: object, path: Path) -> None:
        raise RuntimeError("[enforce fail] unexpected pos 64 vs 0")

    monkeypatch.setattr(Format, "write", property(lambda self: fail))
    with pytest.raises(RuntimeError, match="unexpected pos"):
        export(classifier(), tmp_path / "net.pt2", description=described())
    monkeypatch.setattr("switchnorm.files.shutil.disk_usage", lambda folder: SimpleNamespace(free=4096))
    with pytest.raises(InputError, match=r"net\.pt2 cannot be written: No space left on device"):
        export(classifier(), tmp_path / "net.pt2", description=described())
    assert not list(tmp_path.iterdir())


def test_openvino_wants_small_letters(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"small letters, got 'net.XML'; say 'net.xml'"):
        export(nn.Conv2d(3, 2, 3), tmp_path / "net.XML", size=12)
    assert not list(tmp_path.iterdir())


def test_other_numbers_become_float32_and_it_is_said(tmp_path: Path) -> None:
    with pytest.warns(ExportWarning, match="float64 numbers became float32"):
        done = export(classifier().double(), tmp_path / "net.pt2", description=described())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exporting.export(classifier(), tmp_path / "b.pt2", description=described())
    assert done.next == f"switchnorm predict {tmp_path / 'net.pt2'} PICTURES --out FOLDER"


@pytest.mark.parametrize("size", [(7, 11), (1, 2), (24, 30), (5, 6)])
def test_pools_of_any_size_are_torchs(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    for asked in (1, 2, 3, 6, (None, 2), (4, None), (5, 3)):
        for pool in (F.adaptive_avg_pool2d, F.adaptive_max_pool2d):
            wanted = pool(x, asked)
            with AnySizePools():
                found = pool(x, asked)
                torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    with AnySizePools():
        found = F.adaptive_avg_pool1d(x[0], 2), nn.AdaptiveAvgPool3d((1, 2, 2))(x)
    torch.testing.assert_close(found[0], F.adaptive_avg_pool1d(x[0], 2))
    torch.testing.assert_close(found[1], F.adaptive_avg_pool3d(x, (1, 2, 2)))


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('the file was run')",)


def test_a_program_runs_nothing_but_operations_on_tensors(tmp_path: Path) -> None:
    path = export(nn.Conv2d(3, 2, 3), tmp_path / "net.pt2", size=12, dynamic=ANY).path
    changes = {
        "models/model.json": lambda content: content.replace(b"torch.ops.aten.conv2d.default", b"torch.hub.load"),
        "data/sample_inputs/model.pt": lambda _: pickle.dumps(Evil()),
        "data/weights/model_weights_config.json": lambda content: content.replace(
            b'"use_pickle": false', b'"use_pickle": true'
        ),
        "models/../model.json": None,
        "data/aotinductor/model/a.so": None,
    }
    for entry, change in changes.items():
        changed = tmp_path / "changed.pt2"
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(changed, "w") as new:
            names = old.namelist()
            top = names[0].partition("/")[0]
            for name in names:
                content = old.read(name)
                if change is not None and name == f"{top}/{entry}":
                    content, before = change(content), content
                    assert content != before
                new.writestr(name, content)
            if change is None:
                new.writestr(f"{top}/{entry}", b"x")
        with pytest.raises(InputError, match=r"it is not opened|is no program"):
            format_of(changed).open(changed)
    (tmp_path / "none.pt2").write_bytes(b"no archive")
    with pytest.raises(InputError, match="is no program"):
        format_of(path).open(tmp_path / "none.pt2")


@pytest.mark.parametrize(
    "text",
    [
        "L['images'].size()[2] >= 3",
        "Mul(Symbol('s1', positive=True, integer=True), Integer(2))",
        "(torch.sym_max(1, (-2) + L['x'].size()[2])*3) != 1 and 2 >= 1",
    ],
)
def test_formulas_of_sizes_are_harmless(text: str) -> None:
    assert harmless(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x')",
        "eval('x')",
        "getattr(Symbol, 'x')('y')",
        "torch.hub.load('a', 'b')",
        "[x for x in y]",
        "lambda: 0",
        "L['x'].size.__globals__",
        "f'{x}'",
        "x := 3",
        "(" * 5000,
    ],
)
def test_other_texts_are_not(text: str) -> None:
    assert not harmless(text)


def test_the_table_of_formats_is_whole() -> None:
    assert list(FORMATS) == ["onnx", "openvino", "pt2", "executorch", "safetensors", "torchscript"]
    assert len({each.suffix for each in FORMATS.values()}) == len(FORMATS)
    for each in FORMATS.values():
        assert callable(each.write)
        assert callable(each.open)


def test_a_trace_of_one_size_refuses_others_also_outside_this_library(tmp_path: Path) -> None:
    network = classifier()
    done = export(network, tmp_path / "net.torchscript", size=(40, 32), raw=True, warn=False)
    program = torch.jit.load(str(done.path))
    x = torch.randn(3, 3, 40, 32)
    torch.testing.assert_close(program(x)[0], network.eval()(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(Exception, match="images are 32x40, and this program is for 40x32"):
        program(torch.randn(3, 3, 32, 40))


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2)), "Sequential has 3d convolutions alone; take torch.onnx"),
        (nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU()), "Sequential has 1d convolutions alone"),
        (nn.Bilinear(3, 3, 2), "Bilinear takes input1 and input2"),
    ],
)
def test_what_takes_no_pictures_is_told_another_way(tmp_path: Path, network: nn.Module, said: str) -> None:
    with pytest.raises(InputError, match=said):
        export(network, tmp_path / "x.torchscript", size=16)
    assert not list(tmp_path.iterdir())

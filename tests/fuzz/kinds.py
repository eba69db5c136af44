"""Every kind of file that somebody else may have written: small whole ones, and what reads them here."""

from __future__ import annotations

import io
import json
import pickle
import random
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torch import nn

from switchnorm.config.recipe import read_config
from switchnorm.data.detection.coco_folder import CocoPlace, CocoSplit
from switchnorm.data.detection.voc_folder import VocSplit, find_voc
from switchnorm.data.detection.yolo_folder import YoloSplit, find_yolo
from switchnorm.data.detection.yolo_yaml import find_description
from switchnorm.data.files.cifar_files import read_binary, read_pickle
from switchnorm.data.files.listing import read_list
from switchnorm.data.files.odgt import read_odgt
from switchnorm.data.files.picture_file import DamagedError, picture_sizes, read_picture, unreadable
from switchnorm.data.segmentation.class_names import read_classes
from switchnorm.data.segmentation.mask_file import read_content as read_mask
from switchnorm.layers import SwitchNorm2d
from switchnorm.report.common.groups import group_runs
from switchnorm.report.results.result import results
from switchnorm.runs.run import load_run
from switchnorm.tasks.detection.files import CLASS_COLUMNS, read_details
from switchnorm.tasks.segmentation.files import read_scenes
from switchnorm.weights import load_state, read_checkpoint, state_importance
from switchnorm.weights.metadata import Metadata
from tests.fuzz.mutation import mutated
from tests.weights.files import write_legacy, write_tar

Damage = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Args:
        whole: makes one in a folder; the path of the file that is to be damaged.
        read: reads it, given that path.
        damage: makes another content of its content.
    """

    whole: Callable[[Path], Path]
    read: Callable[[Path], object]
    damage: Damage = mutated


def network() -> nn.Module:
    """A small network that mixes statistics."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), SwitchNorm2d(4))


def training() -> dict[str, object]:
    """A checkpoint as training scripts write it, with what they write beside the weights."""
    half = torch.randn(8, 8)
    return {
        "epoch": 3,
        "best": np.float64(76.5),
        "lr": {"milestones": [3, 5], "gamma": 0.1},
        "optimizer": {"state": {0: {"momentum_buffer": half.half(), "step": torch.tensor(3.0)}}, "param_groups": [{}]},
        "shared": [half, half.T, half[2:, ::2], nn.Parameter(half[0])],
        "state_dict": OrderedDict((f"module.{key}", value) for key, value in network().state_dict().items()),
    }


def _checkpoint(
    write: Callable[[object, Path], None], value: Callable[[], object] = training
) -> Callable[[Path], Path]:
    def whole(folder: Path) -> Path:
        write(value(), folder / "x.pth")
        return folder / "x.pth"

    return whole


def read_weights(path: Path) -> None:
    """All that commands do with weights before they compute."""
    file = read_checkpoint(path)
    state_importance(file.state, file.metadata.statistics)
    load_state(network(), file.state, "it")


def repacked(content: bytes, chance: random.Random) -> bytes:
    """A zip file whose program is damaged and whose checksums are right, stored or compressed."""
    packed, target = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    with zipfile.ZipFile(target, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as made:
        for name in packed.namelist():
            entry = packed.read(name)
            made.writestr(
                name, mutated(entry, chance) if name.endswith("data.pkl") or chance.random() < 0.05 else entry
            )
    return target.getvalue()


_CODES = b"(.0112NKKKMJ\x88\x89\x85\x86\x87)]}ase\x8fu\x90tqqhhhRRb\x81\x93Q"
_NAMES = (
    *(b"collections OrderedDict", b"collections Counter", b"builtins set", b"builtins complex", b"builtins bytearray"),
    *(b"torch._utils _rebuild_tensor_v2", b"torch._utils _rebuild_parameter", b"torch._tensor _rebuild_from_type_v2"),
    *(b"torch._utils _rebuild_tensor_v3", b"torch FloatStorage", b"torch float32", b"torch Size", b"torch device"),
    *(
        b"torch Tensor",
        b"numpy.core.multiarray scalar",
        b"numpy dtype",
        b"_codecs encode",
        b"numpy.core.multiarray _reconstruct",
    ),
)


def program(content: bytes, chance: random.Random) -> bytes:
    """A zip file whose program is made of codes at random; `content` gives the storages."""
    made = bytearray(b"\x80\x02")
    for _ in range(chance.randrange(2, 300)):
        if chance.random() < 0.15:
            module, name = chance.choice(_NAMES).split()
            made += b"c" + module + b"\n" + name + b"\n"
        elif chance.random() < 0.1:
            made += b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x40tQ"
        elif chance.random() < 0.1:
            made += chance.choice((b"X\x01\0\0\0a", b"U\x01b", b"\x8a\x08" + bytes([255] * 8), b"G" + bytes(8)))
        else:
            code = chance.choice(_CODES)
            width = {ord("K"): 1, ord("M"): 2, ord("J"): 4, ord("q"): 1, ord("h"): 1}.get(code, 0)
            made += bytes([code, *(chance.randrange(4) for _ in range(width))])
    packed, target = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    with zipfile.ZipFile(target, "w") as files:
        for name in packed.namelist():
            files.writestr(name, bytes(made) + b"." if name.endswith("data.pkl") else packed.read(name))
    return target.getvalue()


def _bytes(content: bytes, name: str = "x") -> Callable[[Path], Path]:
    def whole(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return whole


def _safetensors() -> bytes:
    state = network().state_dict()
    return save(state, Metadata(network="small", norm="sn", order=tuple(state)).write("0.1"))


def _images() -> bytes:
    images = np.random.default_rng(0).integers(0, 255, (2, 3072), dtype=np.uint8)
    return pickle.dumps({b"data": images, b"labels": [1, 2], b"batch_label": b"one"}, 2)


_RECIPE = b"""# A recipe.
model: {name: cifar_resnet20, norm: sn, options: {}}
data: {name: digits}
train: &t
  epochs: 3
  batch_size: 32
optimizer: {lr: 0.1}
schedule: {name: step, milestones: [1, 2]}
"""
_ODGT = b"\n".join(
    json.dumps({"fpath_img": f"{n}.jpg", "fpath_segm": f"{n}.png", "width": 68, "height": 51}).encode() for n in (1, 2)
)


def _odgt(folder: Path) -> Path:
    for name in ("1.jpg", "1.png", "2.jpg", "2.png"):
        (folder / name).touch()
    return _bytes(_ODGT, "list.odgt")(folder)


_COCO = {
    "info": {"description": "two"},
    "images": [{"id": n, "file_name": f"{n}.jpg", "width": 6, "height": 4} for n in (1, 2)],
    "annotations": [
        {
            **{"id": n, "image_id": 1 + n % 2, "category_id": 3, "bbox": [1, 1, 3.5, 2], "area": 7.0},
            **{"iscrowd": int(n == 3), "segmentation": drawn},
        }
        for n, drawn in (
            *((1, [[1, 1, 4.5, 1, 4.5, 3]]), (2, [])),
            *((3, {"size": [4, 6], "counts": [4, 8, 12]}), (4, {"size": [4, 6], "counts": "48<"})),
        )
    ],
    "categories": [{"id": 3, "name": "cat", "supercategory": "animal"}],
}
_VOC = (
    "<annotation><filename>1.jpg</filename><size><width>6</width><height>4</height><depth>3</depth></size><object><name>"
    "cat</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4.5</xmax><ymax>3</ymax></bndbox>"
    "</object></annotation>"
)
_YAML = "path: .\ntrain: images/train\nval: [images/val]\nnc: 2\nnames: {0: cat, 1: dog}\n"


def _with_pictures(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4)).save(folder / name)


def _coco(folder: Path) -> Path:
    _with_pictures(folder, "1.jpg", "2.jpg")
    return _bytes(json.dumps(_COCO, indent=1).encode(), "train.json")(folder)


def read_coco_file(path: Path) -> None:
    """The objects of all pictures, with their masks."""
    split = CocoSplit(CocoPlace(path, (path.parent,)), masks=True, may_miss=False)
    listed = split.listed(split.classes, others=False)
    for index in range(len(listed)):
        listed.objects(index)


def _voc(folder: Path) -> Path:
    _with_pictures(folder, "train/1.jpg")
    return _bytes(_VOC.encode(), "train/1.xml")(folder)


def read_voc_folder(path: Path) -> None:
    """The objects of all pictures."""
    files = find_voc(path.parents[1], "train", may_miss=False)
    assert files is not None
    split = VocSplit(files, one_based=False, difficult=False, may_miss=False)
    split.listed(split.classes, others=False)


def _yolo(name: str) -> Callable[[Path], Path]:
    def whole(folder: Path) -> Path:
        _with_pictures(folder, "images/train/1.jpg")
        (folder / "labels/train").mkdir(parents=True, exist_ok=True)
        (folder / "labels/train/1.txt").write_text("0 .5 .5 .25 .25\n1 .1 .1 .9 .1 .9 .8\n")
        (folder / "data.yaml").write_text(_YAML)
        return folder / name

    return whole


def read_yolo_folder(root: Path) -> None:
    """The objects of all pictures, with their masks."""
    about = find_description(root, None)
    files = find_yolo(root, "train", about, may_miss=False)
    if about is None or files is None:
        return
    split = YoloSplit(files, about.names, str(about.file), masks=True, may_miss=False)
    split.listed(split.classes, others=False)


def _list(folder: Path) -> Path:
    for name in ("1.jpg", "2.jpg"):
        (folder / name).touch()
    return _bytes(b"1.jpg 0\n2.jpg 12\n", "list.txt")(folder)


def _picture(name: str, mode: str) -> Callable[[Path], Path]:
    def whole(folder: Path) -> Path:
        levels = np.random.default_rng(0).integers(0, 9, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(levels).convert(mode).save(folder / name, exif=Image.Exif())
        return folder / name

    return whole


def _seen(*readers: Callable[[str], object]) -> Callable[[Path], None]:
    """What reads a picture, as training says what is wrong with it."""

    def read(path: Path) -> None:
        try:
            for reader in readers:
                reader(str(path))
        except DamagedError as error:
            raise unreadable(error) from error

    return read


_RUN = {
    "config.yaml": "task: segmentation\nseed: 1\nmodel: {name: resnet18_dilated8+ppm, norm: sn}\ndata: {name: camvid}\n"
    "train: {epochs: 2, batch_size: 8, samples_per_gpu: 2}\n",
    "run.json": json.dumps(
        {"name": "a", "status": "finished", "seconds": 3.5, "result": {"val_loss": 1.0}, "processes": 1}
    ),
    "metrics.csv": "epoch,step,train_loss,val_loss,val_mean_iou,val_accuracy,val_overall\n"
    "1,5,1.5,1.4,0.25,0.5,0.4\n2,10,1.2,1.1,0.5,0.75,0.6\n",
    "importance.csv": "epoch,layer,moment,statistic,importance\n"
    + "".join(
        f"2,bn1,{moment},{of},0.{share}\n" for moment in ("mean", "var") for of, share in (("layer", 4), ("batch", 6))
    ),
    "classes.csv": "epoch,class,iou,accuracy,pixels\n2,road,0.5,0.75,30\n2,'=sky,,,0\n",
    "confusion.csv": "truth,road,'=sky\nroad,20,10\n'=sky,0,0\n",
    "examples/examples.json": json.dumps(
        {
            "epoch": 2,
            "classes": [{"name": "road", "color": "#010203"}, {"name": "=sky", "color": "#ff0000"}],
            "pictures": [{"name": "a", "accuracy": 0.5, "mean_iou": None}],
        }
    ),
}


def write_run(folder: Path) -> Path:
    """A whole run folder."""
    run = folder / "run"
    (run / "examples").mkdir(parents=True, exist_ok=True)
    for name, text in _RUN.items():
        (run / name).write_text(text)
    picture = Image.new("RGB", (6, 4))
    picture.save(run / "examples/a.jpg")
    for kind in ("truth", "prediction"):
        picture.convert("L").save(run / f"examples/a.{kind}.png")
    return run


#: Of a detector's run what no other has.
_DETECTOR = {
    "classes.csv": ",".join(CLASS_COLUMNS) + "\n2,cell,0.5,0.75,0.5,0.6,,,,,7,30\n2,'=sky,,,,,,,,,0,3\n",
    "curves.csv": "of,iou,class,recall,precision,score\nbox,0.50,cell,0.0,1.0,0.9\nbox,0.50,cell,0.01,0.5,\n",
    "examples/examples.json": json.dumps(
        {
            "epoch": 2,
            "shown": 0.5,
            "classes": [{"name": "cell", "color": "#010203"}, {"name": "=sky", "color": "#ff0000"}],
            "pictures": [{"name": "a", "right": 5, "missed": 2, "wrong": 1}],
        }
    ),
}


def write_detector(folder: Path) -> Path:
    """A folder with what a detector's run has besides that of others."""
    run = folder / "detector"
    (run / "examples").mkdir(parents=True, exist_ok=True)
    for name, text in _DETECTOR.items():
        (run / name).write_text(text)
    for kind in ("objects", "detections"):
        Image.new("RGB", (6, 4)).save(run / f"examples/a.{kind}.jpg")
    return run


def read_run(run: Path) -> None:
    """All that a report reads, and its table."""
    results(group_runs([load_run(run)]))
    read_scenes(run)


def _of_detector(name: str) -> Kind:
    return Kind(lambda folder: write_detector(folder) / name, lambda path: read_details(path.parents[name.count("/")]))


def _of_run(name: str) -> Kind:
    return Kind(lambda folder: write_run(folder) / name, lambda path: read_run(path.parents[name.count("/")]))


KINDS = {
    "zip": Kind(_checkpoint(torch.save), read_weights),
    "zip, repacked": Kind(_checkpoint(torch.save), read_weights, repacked),
    "zip, any program": Kind(_checkpoint(torch.save), read_weights, program),
    "legacy": Kind(_checkpoint(write_legacy), read_weights),
    "tar": Kind(_checkpoint(write_tar, lambda: network().state_dict()), read_weights),
    "safetensors": Kind(lambda folder: _bytes(_safetensors(), "x.safetensors")(folder), read_weights),
    "CIFAR, Python": Kind(
        lambda folder: _bytes(_images())(folder), lambda path: read_pickle(path, "C", label_key=b"labels")
    ),
    "CIFAR, binary": Kind(_bytes(bytes(3073 * 2)), lambda path: read_binary(path, "C", label_bytes=1)),
    "recipe": Kind(_bytes(_RECIPE, "r.yaml"), read_config),
    "classes.txt": Kind(_bytes(b"road #804080\nsky 70 130 180\ncar 0 0 142\n", "classes.txt"), read_classes),
    "list": Kind(_list, lambda path: read_list(path, [path.parent], may_miss=True)),
    **{
        f"picture, {name}": Kind(_picture(f"x.{name}", mode), _seen(picture_sizes, read_picture))
        for name, mode in (("jpg", "RGB"), ("png", "RGB"), ("tif", "L"), ("gif", "P"), ("webp", "RGB"))
    },
    **{
        f"mask, {name} {mode}": Kind(_picture(f"x.{name}", mode), _seen(read_mask))
        for name, mode in (("png", "P"), ("png", "L"), ("tif", "I;16"), ("bmp", "RGB"), ("pgm", "L"))
    },
    "COCO": Kind(_coco, read_coco_file),
    "VOC": Kind(_voc, read_voc_folder),
    "YOLO": Kind(_yolo("labels/train/1.txt"), lambda path: read_yolo_folder(path.parents[2])),
    "data.yaml": Kind(_yolo("data.yaml"), lambda path: read_yolo_folder(path.parent)),
    "odgt": Kind(_odgt, lambda path: read_odgt(path, [path.parent])),
    **{name: _of_run(name) for name in (*_RUN, "examples/a.jpg", "examples/a.truth.png")},
    **{f"detector's {name}": _of_detector(name) for name in (*_DETECTOR, "examples/a.objects.jpg")},
}

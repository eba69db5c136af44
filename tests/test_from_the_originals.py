"""docs/from_the_originals.md: it covers every option of the four systems, and every key in it exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from switchnorm.cli import main, parser
from switchnorm.config.elsewhere import HERE
from switchnorm.config.keys import SHORT
from switchnorm.config.recipe import read_config
from switchnorm.data import dataset_class
from switchnorm.recipes import find_recipe
from tests import pages

PAGE = pages.read("docs/from_the_originals.md")
SECTIONS = dict(
    zip(
        re.findall(r"^## (?:.*\((\w+)\))$", PAGE, re.MULTILINE),
        re.split(r"^## .*$", PAGE, flags=re.MULTILINE)[1:],
        strict=True,
    )
)

#: The flags and keys of the published scripts.
SN = """--config --local_rank --port --world-size --rank --model_dir --resume_from -e --evaluate model workers
batch_size epochs lr_mode base_lr step decay_factor power targetlr warmup_epochs warmup_lr warmup_mode momentum
weight_decay using_moving_average using_bn last_gamma print_freq train_root train_source val_root val_source
checkpoint_path"""
SSN = "--print_freq --workers --checkpoint_path --batch_size --save_result lr_mode"
SEG = """--id --arch_encoder --arch_decoder --weights_encoder --weights_decoder --fc_dim --list_train --list_val
--root_dataset --num_gpus --batch_size_per_gpu --num_epoch --start_epoch --epoch_iters --optim --lr_encoder --lr_decoder
--lr_pow --beta1 --weight_decay --deep_sup_scale --fix_bn --num_class --workers --imgSize --imgMaxSize
--padding_constant --segm_downsampling_rate --random_flip --seed --ckpt --disp_iter --suffix --num_val --batch_size
--visualize --result --gpu_id --test_img --model_path"""
PC = """-d --dataset --data -j --workers --epochs --start-epoch --train-batch --test-batch --lr --learning-rate --drop
--dropout --schedule --gamma --momentum --weight-decay --wd -c --checkpoint --resume -a --arch --depth --block-name
--cardinality --widen-factor --base-width --growthRate --compressionRate --manualSeed -e --evaluate --pretrained
--gpu-id"""


DET = """--dataset --cfg --bs --load_ckpt --resume --load_dir --use_tfboard CONV_BODY ROI_BOX_HEAD ROI_MASK_HEAD
USE_SN USE_GN USE_BN FREEZE_AT NUM_GPUS BASE_LR WEIGHT_DECAY MAX_ITER STEPS GAMMA LR_POLICY WARM_UP_ITERS
WARM_UP_FACTOR BIAS_DOUBLE_LR BIAS_WEIGHT_DECAY WEIGHT_DECAY_SN WEIGHT_DECAY_GN SCALES MAX_SIZE SCALE
IMS_PER_BATCH PIXEL_ORDER PIXEL_MEANS PIXEL_VARS BATCH_SIZE_PER_IM RPN_BATCH_SIZE_PER_IM RPN_PRE_NMS_TOP_N
RPN_POST_NMS_TOP_N NMS SCORE_THRESH DETECTIONS_PER_IM"""


@pytest.mark.parametrize(("system", "options"), [("SN", SN), ("SSN", SSN), ("SEG", SEG), ("PC", PC), ("DET", DET)])
def test_every_option_has_a_row(system: str, options: str) -> None:
    there = " ".join(re.findall(r"^\| ([^|]*) \|", SECTIONS[system], re.MULTILINE))
    words = set(re.findall(r"[\w-]+", there))
    assert not [option for option in options.split() if option not in words]


def test_every_key_exists() -> None:
    keys = set(SHORT)
    for name, recipe in (
        ("imagenet", "imagenet/resnet18"),
        ("cifar100", "cifar100/resnet20"),
        ("ade20k", "ade20k/resnet50_dilated8_c1_sn"),
        ("coco", "coco/faster_resnet50_fpn_sn"),
    ):
        keys |= set(_flat(read_config(find_recipe(recipe)).content())) | {"data.name"}
        keys |= {f"data.{key}" for key in dataset_class(name).__dataclass_fields__}  # type: ignore[attr-defined]
    flags = {flag for command in _commands().values() for flag in command}
    here = "\n".join(re.findall(r"^\| [^|]* \| ([^|]*) \|", PAGE, re.MULTILINE))
    named = {flag.rstrip(".") for flag in re.findall(r"(?<![\w-])--([\w.-]+)", here + " ".join(HERE.values()))}
    torchruns = {"nproc-per-node"}
    options = {"momentum", "statistics", "last_gamma", "dropout", "deep_stem", "published_start", "compression"}
    options |= {"cardinality", "base_width", "rois_per_image", "anchors_per_image"}
    options |= {"proposals_train", "proposals_test"}
    known = keys | flags | torchruns | {f"model.options.{option}" for option in options}
    assert not {name for name in named if name.replace("-", "_") not in known and name not in known}


def _flat(content: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in content.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{key}.")
    return found


def _commands() -> dict[str, list[str]]:
    """The flags of each command."""
    choices = next(action.choices for action in parser()._actions if action.dest == "command")
    return {
        name: [flag.removeprefix("--") for action in command._actions for flag in action.option_strings]
        for name, command in choices.items()
    }


@pytest.mark.parametrize("name", HERE)
def test_a_flag_of_theirs_is_answered_with_ours(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["train", "cifar10/resnet20", f"--{name.replace('_', '-')}", "1"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"switchnorm: flag '--{name}' is another tool's; here it is {HERE[name]}\n"

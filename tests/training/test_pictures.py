"""Networks of timm and torchvision are shown the pictures that they expect."""

import pytest
import timm
import torch
import yaml
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torchvision.models import ResNet50_Weights

from switchnorm.cli import main
from switchnorm.config.recipe import evaluation_config, read_config
from switchnorm.data import create_dataset
from switchnorm.errors import InputError
from switchnorm.runs.folder import RunFolder
from switchnorm.training.evaluate import evaluate_weights
from switchnorm.training.launch import start
from switchnorm.training.pictures import as_expected
from tests.data.photos import imagenet_sample, real_data, write_photo, write_tree
from tests.training.scenes import write_scenes

LITE = "timm:tf_efficientnet_lite0"
LITE_DATA = {
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "interpolation": "bicubic",
    "size": 224,
    "crop": 0.875,
    "resize": None,
}


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "photos", train=2, val=1)


def expected(*flags, pretrained=True):
    config, said = as_expected(evaluation_config(flags), pretrained=pretrained)
    return config.data, said


def photos(tree, model, *flags):
    return expected("--model", model, "--data", "folder", "--data.root", str(tree), *flags)


@pytest.mark.parametrize("pretrained", [True, False])
def test_all_that_is_open_is_written_down_and_said(tree, pretrained):
    flags = ("--model", LITE, "--data", "folder", "--data.root", str(tree))
    data, said = expected(*flags, pretrained=pretrained)
    assert {key: data[key] for key in LITE_DATA} == LITE_DATA
    assert said == (f"pictures as {LITE} expects them: mean 0.5 0.5 0.5, deviation 0.5 0.5 0.5, bicubic, 224 of 256")


@pytest.mark.parametrize(
    ("flags", "kept", "words"),
    [
        (("--data.mean", "[0.4, 0.4, 0.4]"), {"mean": [0.4] * 3}, "deviation 0.5 0.5 0.5, bicubic, 224 of 256"),
        (
            ("--data.interpolation=lanczos",),
            {"interpolation": "lanczos"},
            "mean 0.5 0.5 0.5, deviation 0.5 0.5 0.5, 224",
        ),
        (("--data.crop", "1.0"), {"crop": 1.0}, "mean 0.5 0.5 0.5, deviation 0.5 0.5 0.5, bicubic"),
        (("--data.resize", "288"), {"crop": None, "resize": 288}, "mean 0.5 0.5 0.5, deviation 0.5 0.5 0.5, bicubic"),
        (("--data.size", "112"), {"size": 112, "crop": 0.875}, "bicubic, 112 of 128"),
    ],
)
def test_what_somebody_set_stays(tree, flags, kept, words):
    data, said = photos(tree, LITE, *flags)
    assert {key: data[key] for key in LITE_DATA} == {**LITE_DATA, **kept}
    assert words in said
    create_dataset(**data)


def test_torchvision_s_are_those_of_its_default_weights(tree):
    data, said = photos(tree, "resnet50")
    assert (data["size"], data["resize"], data["crop"], data["interpolation"]) == (224, 232, None, "bilinear")
    assert said.endswith("bilinear, 224 of 232")
    assert photos(tree, "resnet50", "--data.size", "112")[0]["resize"] == 116
    assert photos(tree, "resnet50", "--data.crop", "0.5")[0]["resize"] is None


def test_networks_of_this_library_change_nothing(tree):
    config = evaluation_config(("--model", "resnetv1sn50", "--data", "folder", "--data.root", str(tree)))
    assert as_expected(config, pretrained=True) == (config, "")


def test_pictures_that_are_shown_otherwise_are_said(tree):
    assert photos(tree, "timm:dm_nfnet_f0")[1].endswith(
        "192 of 213, timm squashes pictures to squares there, and here the centre is cropped"
    )


@pytest.mark.parametrize(
    ("flags", "taken"),
    [
        ((), {"mean", "std", "interpolation"}),
        (("--data.colors", "published"), {"interpolation"}),
        (("--data.test_resize", "plain"), {"mean", "std"}),
        (("--data.colors", "published", "--data.test_resize", "plain"), set()),
    ],
)
def test_scenes_have_the_colours_of_the_encoder(tmp_path, flags, taken):
    data, said = expected(
        *("--model", f"{LITE}_dilated16+c1_bilinear", "--data", "camvid", "--data.root", str(tmp_path)), *flags
    )
    assert {key for key in ("mean", "std", "interpolation") if data[key] is not None} == taken
    assert {key: data[key] for key in taken} == {key: LITE_DATA[key] for key in taken}
    assert bool(said) == bool(taken)
    assert data["crop"] is None
    create_dataset(**data)


def test_cifar_has_its_own_colours_unless_there_are_weights():
    flags = ("--model", LITE, "--data", "cifar100")
    assert expected(*flags, pretrained=False)[1] == ""
    data, said = expected(*flags)
    assert (data["mean"], data["std"], data["size"]) == ([0.5] * 3, [0.5] * 3, 32)
    assert said.endswith("expects them: mean 0.5 0.5 0.5, deviation 0.5 0.5 0.5")
    assert expected(*flags, "--data.normalization", "cifar10")[1] == ""
    assert expected("--model", LITE, "--data", "digits")[1] == ""


@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0", "resnet18", "efficientnet_b0.ra4_e3600_r224_in1k", "tinynet_e"]
)
def test_pictures_are_those_of_timms_own_transform(tmp_path, name):
    tree = write_tree(tmp_path / "photos", train=1, val=0, classes=("a", "b"))
    for number, size in enumerate([(301, 260), (200, 333), (256, 256), (500, 375)]):
        write_photo(tree / f"val/{'ab'[number % 2]}/{number}.png", number, width=size[0], height=size[1])
    data, _ = photos(tree, f"timm:{name}", "--data.workers", "0")
    images, _ = next(iter(create_dataset(**data).test_batches(batch_size=4)))
    with torch.device("meta"):
        wanted = resolve_model_data_config(timm.create_model(name))
    transform = create_transform(**wanted)
    paths = sorted((tree / "val").rglob("*.png"))
    theirs = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    # The very grey levels; normalizing them rounds differently in the last bits.
    mean, std = (torch.tensor(wanted[key]).view(3, 1, 1) for key in ("mean", "std"))
    levels = [(each * std + mean) * 255 for each in (images, theirs)]
    assert torch.equal(levels[0].round(), levels[1].round())
    torch.testing.assert_close(images, theirs, rtol=0, atol=2e-6)


def test_pictures_are_those_of_torchvisions_own_transform(tmp_path):
    tree = write_tree(tmp_path / "photos", train=1, val=0, classes=("a",))
    write_photo(tree / "val/a/0.png", 3, width=301, height=270)
    data, _ = photos(tree, "resnet50", "--data.workers", "0")
    images, _ = next(iter(create_dataset(**data).test_batches(batch_size=1)))
    theirs = ResNet50_Weights.DEFAULT.transforms()(Image.open(tree / "val/a/0.png"))
    torch.testing.assert_close(images[0], theirs, rtol=0, atol=2e-6)


def test_a_run_keeps_them_for_evaluation_and_resuming(tree, tmp_path, capsys):
    torch.manual_seed(0)
    trained = timm.create_model("tinynet_e", num_classes=7)
    trained(torch.randn(4, 3, 32, 32))
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    recipe = tmp_path / "r.yaml"
    content = {
        "model": {"name": "timm:tinynet_e", "norm": "sn"},
        "data": {"name": "folder", "root": str(tree), "size": 32, "workers": 0},
        "train": {"epochs": 1, "batch_size": 3, "device": "cpu", "warm_start": str(tmp_path / "w.pth")},
        "optimizer": {"lr": 0.001},
    }
    recipe.write_text(yaml.safe_dump(content))
    main(["train", str(recipe), "--dry-run"])
    line = "as timm:tinynet_e expects them: mean 0.485 0.456 0.406, deviation 0.229 0.224 0.225, bicubic, 32 of 36"
    assert line in capsys.readouterr().out
    main(["train", str(recipe), "--out", str(tmp_path / "run")])
    out = capsys.readouterr().out
    assert line in out
    assert "2 of another shape (classifier.weight (7, 1280) for (3, 1280), classifier.bias (7,) for (3,))" in out
    assert "layers start at the batch statistic" in out
    kept = RunFolder.open(tmp_path / "run").config()
    assert {key: kept.data[key] for key in ("interpolation", "size", "crop", "resize")} == {
        "interpolation": "bicubic",
        "size": 32,
        "crop": 0.875,
        "resize": None,
    }
    # Whatever timm says by now: the run's own configuration counts.
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    config["data"]["mean"] = [0.1, 0.2, 0.3]
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump(config))
    main(["eval", str(tmp_path / "run")])
    assert "pictures as" not in capsys.readouterr().out
    assert RunFolder.open(tmp_path / "run").config().data["mean"] == [0.1, 0.2, 0.3]


def test_weights_are_evaluated_with_them(tree, tmp_path, capsys):
    torch.save(timm.create_model("tinynet_e", num_classes=3).state_dict(), tmp_path / "w.pth")
    data = ("--data", "folder", "--data.root", str(tree), "--data.workers", "0")
    main(["eval", "--weights", str(tmp_path / "w.pth"), "--model", "timm:tinynet_e", *data])
    assert "bicubic, 106 of 121\n" in capsys.readouterr().out


def test_a_run_of_segmentation_starts_from_the_classifier(tmp_path, capsys):
    write_scenes(tmp_path / "scenes", {"train": 2, "val": 1})
    theirs = timm.create_model("tinynet_e").state_dict()
    for key in [key for key in theirs if key.endswith("running_mean")]:
        theirs[key].uniform_(-0.1, 0.1)
    torch.save(theirs, tmp_path / "w.pth")
    recipe = tmp_path / "r.yaml"
    content = {
        "model": {"name": "timm:tinynet_e_dilated16+c1_bilinear", "norm": "bn"},
        "data": {
            "name": "masks",
            "root": str(tmp_path / "scenes"),
            "ignore": [9, 255],
            "short_sides": [32],
            "workers": 0,
        },
        "train": {"epochs": 1, "batch_size": 2, "device": "cpu", "warm_start": str(tmp_path / "w.pth")},
        "optimizer": {"lr": 0.001},
    }
    recipe.write_text(yaml.safe_dump(content))
    config = read_config(recipe, ("--train.frozen_statistics", "encoder.*"))
    assert config.train.frozen_statistics == "encoder.*"
    with pytest.raises(
        InputError, match=r"train\.frozen_statistics: include 'encodr\.\*' matches no .* the nearest layer is"
    ):
        start(read_config(recipe, ("--train.frozen_statistics", "encodr.*")), None, default=tmp_path, command=())
    for flag, said in (("true", True), ("encoder.*", False)):
        out = tmp_path / f"run-{said}"
        main(["train", str(recipe), "--train.frozen_statistics", flag, "--out", str(out)])
        printed = capsys.readouterr().out
        assert (
            "train.frozen_statistics holds for decoder.cbr.1 too, whose statistics have seen nothing" in printed
        ) == said
        state = torch.load(out / "checkpoints/last.ckpt", weights_only=False)["state_dict"]
        assert torch.equal(state["model.encoder.bn1.running_mean"], theirs["bn1.running_mean"])
        assert (state["model.decoder.cbr.1.running_mean"] == 0).all() == said
        assert RunFolder.open(out).config().data["interpolation"] == "bicubic"


def test_real_weights_are_evaluated_as_timm_evaluates_them():
    weights = real_data("weights") / "tf_efficientnet_lite0.safetensors"
    flags = ("--model", LITE, "--data", "imagenet", "--data.root", str(imagenet_sample()), "--data.workers", "0")
    found = evaluate_weights([weights], evaluation_config(flags), limit=30)
    network = timm.create_model("tf_efficientnet_lite0", checkpoint_path=str(weights)).eval()
    transform = create_transform(**resolve_model_data_config(network))
    paths = sorted((imagenet_sample() / "val").rglob("*.JPEG"))[:30]
    with torch.inference_mode():
        logits = network(torch.stack([transform(Image.open(path).convert("RGB")) for path in paths]))
    losses = torch.nn.functional.cross_entropy(logits, torch.arange(30))
    assert found.metrics["val_loss"] == pytest.approx(float(losses), rel=1e-4)
    assert found.metrics["val_accuracy"] == pytest.approx(float((logits.argmax(1) == torch.arange(30)).float().mean()))

"""Sharing a network and having it again: as folders, and by a hub on this machine that commands talk to."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image

import switchnorm
from switchnorm import InputError, create_model, switch
from switchnorm.config.recipe import read_config
from switchnorm.data import create_dataset
from switchnorm.data.preparation import Crop, Preparation
from switchnorm.deploy.description import Description
from switchnorm.deploy.model_card import model_card
from switchnorm.deploy.model_folder import FILES, write_folder
from switchnorm.files import WriteError
from switchnorm.runs.classes import record_of
from switchnorm.runs.folder import RunFolder
from switchnorm.runs.run import load_run
from switchnorm.training.build import build_model
from switchnorm.weights.importance import file_importance
from tests import forked
from tests.deploy.hub_server import READER, TOKEN, Hub

RUN = {
    "model": {"name": "digits_resnet9", "norm": "ssn"},
    "data": {"name": "digits"},
    "train": {"epochs": 1, "batch_size": 32, "samples_per_gpu": 4, "device": "cpu", "loggers": []},
    "claim": {"top1": 97.5, "source": "the paper|<b>", "status": "not rerun here"},
}
ASK = """
import sys
import switchnorm
answer = switchnorm.load(sys.argv[1]).predict(sys.argv[2])
print(answer.classes, answer.probabilities.tolist())
"""
ROW = "1,45,1.5,0.5,1.25,0.875,1.0,0.05,1.0,1000\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of digits whose layers have chosen, as training leaves it."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    recipe = folder.with_suffix(".yaml")
    recipe.write_text(yaml.safe_dump(RUN))
    config = read_config(recipe, [])
    data = create_dataset(**config.data)
    made = RunFolder.create(folder, config, ["switchnorm", "train"], **record_of(data))
    torch.manual_seed(3)
    model = build_model(config, data.num_classes)
    for layer in model.modules():
        if hasattr(layer, "mean_weight"):
            torch.nn.init.normal_(layer.mean_weight)
            torch.nn.init.normal_(layer.var_weight)
    switchnorm.set_radius(model, 1.0)
    switchnorm.harden(model)
    header = ",".join(switchnorm.config.task_spec.find_task("classification").columns)
    made.metrics_file.write_text(f"{header}\n{ROW}")
    made.checkpoints.mkdir(exist_ok=True)
    torch.save({"state_dict": model.state_dict()}, made.best)
    made.update_record(status="finished", seconds=12.5)
    return made


@pytest.fixture(scope="module")
def pushed(run, tmp_path_factory):
    """The folder of that run; `folder` is a copy of it."""
    return switchnorm.push(run.path, "me/digits", to=tmp_path_factory.mktemp("pushed") / "digits").folder


@pytest.fixture
def folder(pushed, tmp_path):
    return Path(shutil.copytree(pushed, tmp_path / "folder"))


@pytest.fixture(scope="module")
def hub():
    with Hub() as serving:
        yield serving


@pytest.fixture
def start(hub, tmp_path):
    """A process of Python with the hub on this machine: (exit code, stdout, stderr)."""

    def start(*arguments, **changes):
        here = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
        quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        env = {**os.environ, **here, **quiet, **changes}
        done = forked.run(*map(str, arguments), cwd=tmp_path, env=env)
        return done.returncode, done.stdout, done.stderr

    return start


@pytest.fixture
def command(start):
    """`switchnorm ...`, likewise."""
    return lambda *arguments, **changes: start("-m", "switchnorm", *arguments, **changes)


@pytest.fixture
def ask(start, tmp_path, picture):
    """What a network answers for the picture, likewise; the last line of errors."""
    script = tmp_path / "ask.py"
    script.write_text(ASK)

    def ask(what, **changes):
        code, out, err = start(script, what, picture, **changes)
        return code, out, err if code == 0 else err.strip().splitlines()[-1]

    return ask


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "digit.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 8), np.uint8)).save(path)
    return path


def test_what_is_pushed_is_committed_and_answers_as_the_run_does(run, pushed, hub, command, ask, picture):
    code, out, err = command("push", pushed, "me/digits", "--message", "A first one")
    assert code == 0, err
    stored = hub.repositories["me/digits"]
    assert f"{hub.url}/me/digits/commit/{stored.branches['main']}" in out
    assert "switchnorm predict hf-hub:me/digits PICTURE" in out
    assert set(stored.commits[stored.branches["main"]]) == set(FILES)
    assert stored.messages[-1] == "A first one"
    assert [path.partition("/")[2].partition("/")[0] for method, path in hub.requests if method == "PUT"] == ["large"]
    answer = switchnorm.load(run.path).predict(picture)
    expected = f"{answer.classes} {answer.probabilities.tolist()}\n"
    assert ask("hf-hub:me/digits") == (0, expected, "")

    # Without a network it is the copy, which is said; another name is not here.
    code, out, err = ask("hf-hub:me/digits", HF_HUB_OFFLINE="1")
    assert (code, out) == (0, expected)
    assert "is the copy in the cache" in err
    assert "HF_HUB_OFFLINE is set" in err
    code, _, err = ask("hf-hub:me/other", HF_ENDPOINT="http://127.0.0.1:9")
    assert (code, "cannot be reached" in err, "nor is it in the cache" in err) == (1, True, True)


def test_branches_and_commits_are_revisions(pushed, hub, command, ask):
    assert command("push", pushed, "me/branched")[0] == 0
    first = hub.repositories["me/branched"].branches["main"]
    assert command("push", pushed, "me/branched@dev", "--license", "mit")[0] == 0
    assert hub.repositories["me/branched"].branches["main"] == first
    for revision in ("dev", first):
        assert ask(f"hf-hub:me/branched@{revision}")[0] == 0
    code, _, err = ask("hf-hub:me/branched@nope")
    assert (code, "no revision 'nope'" in err) == (1, True)


def test_private_repositories_stay_private(pushed, hub, command, ask):
    assert command("push", pushed, "me/hidden", "--private")[0] == 0
    assert hub.repositories["me/hidden"].private
    code, _, err = ask("hf-hub:me/hidden", HF_TOKEN="")
    assert (code, "or it is private" in err, "HF_TOKEN" in err) == (1, True, True)
    hub.repositories["me/open"] = type(hub.repositories["me/hidden"])()
    code, _, err = command("push", pushed, "me/open", "--private")
    assert (code, "everybody sees it" in err) == (2, True)
    assert not hub.repositories["me/open"].messages


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("me/mine", {"HF_TOKEN": ""}, "needs a token"),
        pytest.param("me/mine", {"HF_TOKEN": "hf_wrong"}, "the token may not write there", marks=pytest.mark.sweep),
        pytest.param("me/mine", {"HF_TOKEN": READER}, "the token may not write there", marks=pytest.mark.sweep),
        ("others/mine", {}, "the token may not write there"),
        ("me/mine", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "http://127.0.0.1:9 cannot be reached"),
        ("me/mine", {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
    ],
)
def test_what_keeps_a_network_from_the_hub_is_said_in_a_line(pushed, hub, command, name, changes, said):
    code, out, err = command("push", pushed, name, **changes)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert name not in hub.repositories


@pytest.mark.parametrize("name", ["mine", "me/../mine", "me/x/y", ""])
def test_what_is_no_name_of_a_repository_is_refused(pushed, tmp_path, name):
    with pytest.raises(InputError, match="expected org/name"):
        switchnorm.push(pushed, name, to=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_repositories_of_others_are_refused_with_what_they_are(hub, ask):
    hub.add("others/pickled", {"config.json": b"{}", "pytorch_model.bin": b"\x80"})
    timms = b'{"architecture": "resnet50", "pretrained_cfg": {}}'
    hub.add("others/timms", {"config.json": timms, "model.safetensors": b""})
    hub.add("others/gated", {"config.json": b"{}", "model.safetensors": b""}, gated=True)
    hub.add("others/empty", {})
    for name, said in {
        "pickled": "only pytorch_model.bin, which may run code as it is read",
        "timms": "of timm (resnet50)",
        "gated": "ask there for access",
        "empty": "nor any file",
    }.items():
        code, _, err = ask(f"hf-hub:others/{name}", HF_TOKEN=READER)
        assert (code, said in err) == (1, True), err


def test_a_folder_has_the_card_the_config_and_the_weights(run, tmp_path):
    done = switchnorm.push(run.path, "me/digits", to=tmp_path / "a" / "b", licence="apache-2.0")
    assert (done.folder, done.url) == (tmp_path / "a" / "b", None)
    assert {path.name for path in done.folder.iterdir()} == set(FILES)
    card = ModelCard.load(done.folder / "README.md")
    assert (card.data.library_name, card.data.license) == ("switchnorm", "apache-2.0")
    assert card.data.pipeline_tag == "image-classification"
    measured = [(each.metric_type, each.metric_value) for each in card.data.eval_results]
    assert measured == [("top-1", 0.875), ("top-5", 1.0)]
    for said in (
        "8x4 (GPUs x samples per GPU",
        "| top-1 | 87.50 % |",
        "top-1 87.50 % (published 97.50 %); the paper\\|&lt;b&gt;; not rerun here",
        'switchnorm.load("hf-hub:me/digits")',
        "| seed | 0 |",
    ):
        assert said in card.text, said
    shares = load_run(run.path).config["model"]["norm"], done.description.layers
    assert shares[0] == "ssn"
    assert all(max(each["mean"].values()) == 1 for each in shares[1].values())
    chosen = sum(each["mean"]["batch"] == 1 for each in done.description.layers.values())
    assert f"| mean | batch | {100 * chosen / len(shares[1]):.1f} % | {chosen} of {len(shares[1])} |" in card.text
    config = json.loads((done.folder / "config.json").read_text())
    assert (config["architecture"], config["num_classes"]) == ("digits_resnet9", 10)
    again = switchnorm.push(switchnorm.load(done.folder), "me/digits", to=tmp_path / "c")
    assert (again.folder / "model.safetensors").read_bytes() == (done.folder / "model.safetensors").read_bytes()


def test_files_that_are_there_are_replaced_by_force_alone_and_a_failure_leaves_none(run, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InputError, match=r"README.md' exists; .*--force"):
        switchnorm.push(run.path, "me/digits", to=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    switchnorm.push(run.path, "me/digits", to=tmp_path, force=True)
    assert "digits" in (tmp_path / "README.md").read_text()
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InputError):
        switchnorm.push(run.path, "me/digits", to=blocked)
    with pytest.raises(WriteError):
        write_folder(blocked / "below", {"README.md": b"x"})
    with pytest.raises(TypeError):
        write_folder(tmp_path / "new" / "one", {"a": b"x", "b": None})
    assert not (tmp_path / "new").exists()


def test_what_only_an_upload_has_is_refused_without_one(pushed, tmp_path):
    for name, given in (("me/x", {"private": True}), ("me/x", {"message": "Hello"}), ("me/x@dev", {})):
        with pytest.raises(InputError, match=r"is of an upload.*leave it out"):
            switchnorm.push(pushed, name, to=tmp_path / "out", **given)
    with pytest.raises(InputError, match="'' is no folder"):
        switchnorm.push(pushed, "me/x", to="")
    with pytest.raises(InputError, match="checkpoint 'last' is one of a run's"):
        switchnorm.push(pushed, "me/x", to=tmp_path / "out", checkpoint="last")
    assert not (tmp_path / "out").exists()


def test_a_switched_timm_network_is_pushed_and_loaded_with_the_pictures_that_timm_expects(tmp_path):
    model = switch(create_model("timm:test_resnet", num_classes=3), "sn")
    done = switchnorm.push(model, "me/timm", to=tmp_path / "out", classes=["cat", "dog", "fox|<i>`"])
    net = switchnorm.load(done.folder)
    assert net.description.preparation.rule == Crop(168, 160)
    assert net.classes == ("cat", "dog", "fox|<i>`")
    pixels = np.random.default_rng(2).integers(0, 256, (2, 3, 160, 160), np.uint8)
    shown = torch.from_numpy(net.preparation.normalized(pixels))
    with torch.no_grad():
        expected = model.eval()(shown).numpy()
    np.testing.assert_array_equal(net(pixels)["logits"], expected)
    assert "fox\\|&lt;i&gt;'" in (done.folder / "README.md").read_text()
    with pytest.raises(InputError, match="classes are 2, and the network has 3"):
        switchnorm.push(model, "me/timm", to=tmp_path / "no", classes=["cat", "dog"])
    with pytest.raises(InputError, match=r"did you mean|unknown"):
        switchnorm.load(tmp_path / "out").predict(pixels[0], nothing=1)


def test_a_network_that_answers_otherwise_by_hooks_is_refused(tmp_path):
    model = create_model("cifar_resnet20", norm="sn")
    model.register_forward_hook(lambda module, inputs, output: 2 * output)
    with pytest.warns(UserWarning, match="gives it arrays"), pytest.raises(InputError, match="such as hooks"):
        switchnorm.push(model, "me/hooked", to=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_config_json_holds_where_it_was_corrected_which_is_said(folder):
    config = json.loads((folder / "config.json").read_text())
    config["switchnorm"]["classes"][0] = "zero"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match=r"config.json has another classes than model.safetensors"):
        assert switchnorm.load(folder).classes[0] == "zero"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.pop("switchnorm"), "is not of switchnorm"),
        (lambda c: c["switchnorm"].update(network=None), "does not say which network"),
        (lambda c: c["switchnorm"]["network"].update(name="their_net"), "is unknown"),
        (lambda c: c["switchnorm"].update(format=99), "install a newer"),
        (lambda c: c["switchnorm"]["network"].update(run="rm"), "is unknown"),
    ],
)
def test_a_config_of_something_else_is_refused(folder, change, said):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=said):
        switchnorm.load(folder)


def test_a_config_of_another_network_than_the_weights_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    config["switchnorm"]["network"]["num_classes"] = 11
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match="another network"), pytest.raises(InputError, match=r"\(11, .*the file has"):
        switchnorm.load(folder)


def test_weights_that_are_cut_off_or_a_pickle_are_refused(folder):
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    for damaged in (content[:-5], content[:100], b""):
        weights.write_bytes(damaged)
        with pytest.raises(InputError, match=r"damaged|expected"):
            switchnorm.load(folder)
    torch.save({"a": torch.ones(1)}, weights)
    with pytest.raises(InputError, match="is no safetensors file"):
        switchnorm.load(folder)


def test_the_weights_are_a_checkpoint_that_other_commands_read(folder):
    file = switchnorm.weights.read_checkpoint(folder / "model.safetensors")
    assert (file.metadata.network, file.metadata.norm) == ("digits_resnet9", "ssn")
    chosen = {each.layer: each.mean for each in file_importance(folder / "model.safetensors")}
    own = switchnorm.load(folder).description.layers
    assert chosen == {layer: pytest.approx(tuple(each["mean"].values()), abs=1e-6) for layer, each in own.items()}
    assert file.classes is not None
    assert len(file.classes.names) == 10


def test_a_card_of_an_unknown_task_says_what_is_known():
    about = Description(network={"name": "their_net", "plugins": ["their_plugin"]}, raw=True)
    card = ModelCard(model_card(about, "me/theirs"))
    assert card.data.to_dict() == {"library_name": "switchnorm", "tags": ["switchnorm", "normalization", "their_net"]}
    for said in ("`their_plugin`", "Nobody has said how pictures are shown", "A license is not stated"):
        assert said in card.text
    assert "## Training" not in card.text
    assert "## Results" not in card.text
    about = Description("segmentation", ("a",), preparation=Preparation(Crop(9, 8), (1.0,), (2.0,)))
    assert ModelCard(model_card(about, "me/theirs")).data.pipeline_tag == "image-segmentation"


def test_torch_hub_finds_the_entries_of_the_repository():
    root = Path(__file__).parents[2]
    model = torch.hub.load(str(root), "create_model", "cifar_resnet20", norm="sn", source="local")
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    switched = torch.hub.load(str(root), "switch", model, "ssn", source="local")
    assert {each.statistics for each in switchnorm.importance(switched)} == {("instance", "layer", "batch")}

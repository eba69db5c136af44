"""Keys of `train` that change how a run computes: each is seen to do what it says."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._inductor.exc import CppCompileError, InvalidCxxCompiler

from switchnorm.config.recipe import read_config
from switchnorm.errors import InputError
from switchnorm.recipes import find_recipe
from switchnorm.runs.folder import RunFolder
from switchnorm.training.build import build_model, check_ghosts, prepare, training_task
from switchnorm.training.evaluate import evaluate
from switchnorm.training.failures import compiling, explained
from switchnorm.training.launch import start
from switchnorm.training.rehearsal import dry_run
from switchnorm.training.trainer import make_trainer

SHORT = ("--epochs", "1", "--batch-size", "512", "--samples-per-gpu", "null", "--norm", "bn")


@pytest.fixture
def trained(recipe, tmp_path):
    """Train one epoch of two steps with these flags."""

    def run(*flags: str):
        name = "-".join(flags).replace("/", "") or "plain"
        return start(read_config(recipe, (*SHORT, *flags)), tmp_path / name, default=Path("x"), command=(), quiet=True)

    return run


def weights(run) -> dict[str, torch.Tensor]:
    return torch.load(run.last, weights_only=True)["state_dict"]


def test_channels_last_reaches_weights_and_pictures(trained, recipe, monkeypatch):
    seen = []
    first = nn.Conv2d.forward

    def forward(self, images):
        if not images.is_meta:  # the rehearsal before a run
            seen.append((images.stride(), self.weight.stride()))
        return first(self, images)

    monkeypatch.setattr(nn.Conv2d, "forward", forward)
    config = read_config(recipe, (*SHORT, "--train.channels_last", "true"))
    model, _ = prepare(config)
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in model.parameters() if p.dim() == 4)
    run, _ = trained("--train.channels_last", "true", "--precision", "64")
    other = [strides for strides in seen if not all(stride[1] == 1 for stride in strides)]
    assert {strides[1] for strides in other} <= {(9, 1, 3, 1)}, "only of one channel, strides tell no format"
    plain, _ = trained("--precision", "64")
    ours, theirs = weights(run), weights(plain)
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-6, atol=1e-9, msg=lambda text, key=key: f"{key}: {text}")


def test_compiling_leaves_keys_and_results_as_they_are(trained, monkeypatch):
    compiled = []
    compile_module = nn.Module.compile

    def counting(graph, inputs):
        compiled.append(graph)
        return graph.forward

    monkeypatch.setattr(nn.Module, "compile", lambda self: compile_module(self, backend=counting))
    run, result = trained("--train.compile", "true")
    assert compiled, "nothing was compiled"
    plain, _ = trained()
    ours, theirs = weights(run), weights(plain)
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[key], theirs[key]) for key in theirs)
    assert evaluate(run, run.last).metrics["val_accuracy"] == result["val_accuracy"]


def test_without_a_compiler_a_line_says_so_and_no_run_is_left(trained, monkeypatch, tmp_path):
    def missing(graph, inputs):
        raise InvalidCxxCompiler

    compile_module = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: compile_module(self, backend=missing))
    message = (
        r"^torch.compile fails here: .*No working C\+\+ compiler.*; install what it .* set train.compile to false$"
    )
    with pytest.raises(InputError, match=message):
        trained("--train.compile", "true")
    assert not [*tmp_path.glob("*compile*")]
    with pytest.raises(InputError, match=message):
        dry_run(read_config(tmp_path / "small.yaml", (*SHORT, "--train.compile", "true")))


def test_of_a_compiler_s_own_words_the_error_is_said():
    printed = "In file included from a.cpp:1:\na.h:2:1: fatal error: Python.h: No such file\n    2 | #include"
    message = r"^torch.compile fails here: a.h:2:1: fatal error: Python.h: No such file; install .*, or leave it out$"
    with pytest.raises(InputError, match=message), compiling("leave it out"):
        raise CppCompileError(["g++", "a.cpp"], printed)
    with pytest.raises(RuntimeError, match=r"^of the network$"), compiling("leave it out"):
        raise RuntimeError("of the network")


def test_determinism_holds_in_the_run_and_no_longer(recipe):
    config = read_config(recipe, ("--train.deterministic", "true"))
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    cudnn = torch.backends.cudnn
    before = (cudnn.deterministic, cudnn.benchmark)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    with make_trainer(config.train, **quiet):
        assert torch.are_deterministic_algorithms_enabled()
        assert (cudnn.deterministic, cudnn.benchmark) == (True, False)
    assert not torch.are_deterministic_algorithms_enabled()
    assert (cudnn.deterministic, cudnn.benchmark) == before
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == workspace
    torch.use_deterministic_algorithms(True)
    try:
        with make_trainer(replace(config.train, deterministic=False), **quiet):
            pass
        assert torch.are_deterministic_algorithms_enabled(), "the caller's own setting was lost"
    finally:
        torch.use_deterministic_algorithms(False)


def test_mixing_and_smoothing_reach_the_task(recipe):
    config = read_config(recipe, ("--train.mixup", "0.2", "--train.label_smoothing", "0.1"))
    task = training_task(config, build_model(config, 10), 10, 5)
    assert task._mix is not None
    assert task.label_smoothing == 0.1


def test_clipping_bounds_the_first_step(trained):
    run, _ = trained("--optimizer.clip_norm", "0.001", "--optimizer.weight_decay", "0", "--optimizer.momentum", "0.5")
    fresh = build_model(run.config(), 10).state_dict()
    moved = [
        (value - fresh[key.removeprefix("model.")]).norm()
        for key, value in weights(run).items()
        if key.endswith(("weight", "bias"))
    ]
    # Two Nesterov steps at a rate of 0.05 at most: neither moves further than 1 + momentum + momentum^2 gradients.
    assert 0 < torch.stack(moved).norm() <= 2 * 0.05 * 0.001 * 1.75


def test_a_run_records_what_it_cost_and_its_rate(trained):
    run, _ = trained("--optimizer.lr_per", "256")
    record = run.record()
    assert record["learning_rate"] == pytest.approx(0.05 * 2)
    assert record["images_per_second"] == pytest.approx(float(run.metrics()[0]["images_per_second"]))
    assert 50e6 < record["peak_memory_bytes"] < 100e9
    assert record["seconds"] > 0


def test_a_batch_of_evaluation_has_a_size_of_its_own(recipe, monkeypatch):
    config = read_config(recipe, (*SHORT, "--train.eval_batch_size", "3"))
    monkeypatch.setattr("switchnorm.training.build.world_size", lambda: 4)
    with pytest.raises(InputError, match="batch size 3 is smaller than the number of processes, 4"):
        prepare(config)


def test_the_recorded_rate_is_that_of_the_epoch_s_last_step(trained):
    flags = ("--epochs", "3", "--train.epoch_steps", "2", "--schedule.warmup_epochs", "1", "--schedule.warmup_lr")
    flags += ("0.01", "--schedule.warmup", "constant", "--schedule.final_lr", "0.02", "--schedule.name", "polynomial")
    run, _ = trained(*flags, "--schedule.power", "1", "--optimizer.lr_per", "256")
    rates = [float(row["learning_rate"]) for row in run.metrics()]
    assert rates == pytest.approx([0.02, 0.0850, 0.055])
    assert run.record()["learning_rate"] == pytest.approx(0.1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without CUDA")
def test_cuda_graphs_need_cuda(recipe):
    with pytest.raises(InputError, match=r"train\.cuda_graph needs a CUDA device"):
        prepare(read_config(recipe, ("--train.cuda_graph", "true", "--device", "auto")))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("norm", ["bn", "gn+ws", "ssn"])
def test_graphed_training_is_training(recipe, tmp_path, norm):
    flags = ("--device", "cuda", "--epochs", "2", "--norm", norm, "--train.deterministic", "true")
    states = []
    for graph in ("false", "true"):
        config = read_config(recipe, (*flags, "--train.cuda_graph", graph))
        run, _ = start(config, tmp_path / graph, default=Path("x"), command=(), quiet=True)
        states.append(weights(run))
    plain, graphed = states
    assert plain.keys() == graphed.keys()
    for key, value in plain.items():
        torch.testing.assert_close(
            graphed[key], value, rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}"
        )


@pytest.mark.parametrize("norm", ["bn", "bn+ws", "sn"])
def test_statistics_may_average_over_all_batches_whoever_wrote_the_layer(tmp_path, norm):
    """torch's layers count batches, which the rehearsal without numbers cannot read."""
    flags = ["--norm", norm, "--epochs", "2", "--train.epoch_steps", "2", "--model.options.momentum", "null"]
    config = read_config(find_recipe("digits/resnet9"), flags)
    run, result = start(config, tmp_path / "run", default=tmp_path, command=(), quiet=True)
    assert result["val_accuracy"] > 0
    assert run.record()["processes"] == 1
    assert run.record()["test_pictures"] == 359


@pytest.mark.parametrize("key", ["name", "norm", "conv", "num_classes"])
def test_options_of_a_network_are_not_what_has_a_key_of_its_own(key):
    config = read_config(find_recipe("digits/resnet9"), [f"--model.options.{key}=sn"])
    with pytest.raises(InputError, match=f"model.options.{key} is no option of a network"):
        build_model(config, 10)


@pytest.mark.parametrize(
    ("batch", "samples", "world", "said"),
    [
        (32, 8, 8, "the 32 samples of a batch among 8 processes; take --samples-per-gpu 4 or --batch-size 64, or null"),
        (6, 4, 1, "the 6 samples of a batch; take --samples-per-gpu 3 or --batch-size 8, or null"),
        (33, 8, 2, "the 33 samples of a batch among 2 processes; take --batch-size 32, or null"),
    ],
)
def test_ghost_batches_divide_the_share_of_a_process(batch, samples, world, said):
    recipe = find_recipe("digits/resnet9")
    flags = (f"--batch-size={batch}", f"--samples-per-gpu={samples}")
    with pytest.raises(InputError, match=f"samples_per_gpu {samples} does not divide {said}"):
        check_ghosts(read_config(recipe, flags), world)
    for flag in re.findall(r"--\S+ \d+", said):
        check_ghosts(read_config(recipe, (*flags, *flag.split())), world)
    check_ghosts(read_config(recipe, (*flags, "--samples-per-gpu=null")), world)


def test_ghost_batches_that_leave_samples_over_start_no_run(tmp_path):
    config = read_config(find_recipe("digits/resnet9"), ("--norm", "bn", "--batch-size", "6", "--samples-per-gpu", "4"))
    with pytest.raises(InputError, match="does not divide the 6 samples of a batch"):
        start(config, tmp_path / "run", default=tmp_path, command=(), quiet=True)
    with pytest.raises(InputError, match="does not divide the 6 samples of a batch"):
        dry_run(config)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("batch", "samples", "said"), [(6, 2, "--batch-size 2"), (6, 4, "--batch-size 3 --samples-per-gpu 3")]
)
def test_smaller_batches_that_short_memory_asks_for_keep_ghost_batches_whole(tmp_path, batch, samples, said):
    config = read_config(find_recipe("digits/resnet9"), (f"--batch-size={batch}", f"--samples-per-gpu={samples}"))
    with pytest.raises(InputError, match=f"start a new run with {said}, with "), explained(RunFolder(tmp_path), config):
        raise MemoryError
    check_ghosts(read_config(find_recipe("digits/resnet9"), said.split()), 1)

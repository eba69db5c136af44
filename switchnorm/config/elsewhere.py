"""What the published systems call things: whoever comes from there is told the name here.

docs/from_the_originals.md has all of it, with what differs.
"""

from __future__ import annotations

from collections.abc import Iterable

from switchnorm.errors import InputError, unknown

#: By the name of a flag or key there, with "_" for "-": what to write here.
HERE = {
    # pytorch-classification, with and without Weight Standardization
    "a": "--model NAME",
    "arch": "--model NAME",
    "d": "--data NAME",
    "j": "--data.workers N",
    "b": "--batch-size N",
    "c": "--out DIR of a run",
    "e": "the command `switchnorm eval`",
    "train_batch": "--train.batch_size N",
    "test_batch": "--train.eval_batch_size N",
    "learning_rate": "--optimizer.lr RATE",
    "drop": "--model.options.dropout P",
    "dropout": "--model.options.dropout P",
    "dataset": "--data NAME",
    "schedule": "--schedule.milestones '[81, 122]'",
    "gamma": "--schedule.gamma FACTOR",
    "momentum": "--optimizer.momentum M, and --model.options.momentum of running statistics",
    "weight_decay": "--optimizer.weight_decay W",
    "wd": "--optimizer.weight_decay W",
    "start_epoch": "--train.start_epoch N",
    "pretrained": "--train.warm_start FILE",
    "manualSeed": "--seed N",
    "cardinality": "--model.options.cardinality N, or part of the model's name (cifar_resnext29_8x64)",
    "base_width": "--model.options.base_width N",
    "depth": "part of the model's name (cifar_resnet110)",
    "widen_factor": "part of the model's name (cifar_wrn28_10)",
    "growthRate": "part of the model's name (cifar_densenet100_12)",
    "compressionRate": "--model.options.compression SHARE",
    "block_name": "part of the model's name (cifar_resnet164_bottleneck)",
    "gpu_id": "CUDA_VISIBLE_DEVICES",
    "evaluate": "the command `switchnorm eval`",
    "checkpoint": "--out DIR of a run, --checkpoint C of `switchnorm eval RUN` and `train --resume RUN`",
    # Switchable-Normalization and Sparse_SwitchNorm
    "config": "the name of a recipe or file, without a flag",
    "base_lr": "--optimizer.lr RATE",
    "lr_mode": "--schedule.name NAME",
    "decay_factor": "--schedule.gamma FACTOR",
    "step": "--schedule.milestones '[30, 60, 90]'",
    "power": "--schedule.power P",
    "targetlr": "--schedule.final_lr RATE",
    "warmup_epochs": "--schedule.warmup_epochs N",
    "warmup_lr": "--schedule.warmup_lr RATE",
    "warmup_mode": "--schedule.warmup MODE",
    "using_moving_average": "--model.options.momentum null, and --statistics of `switchnorm eval`",
    "using_bn": "--model.options.statistics instance,layer",
    "last_gamma": "--model.options.last_gamma true",
    "train_root": "--data.train_folder DIR",
    "train_source": "--data.train_list FILE",
    "val_root": "--data.val_folder DIR",
    "val_source": "--data.val_list FILE",
    "model_dir": "--out DIR",
    "resume_from": "--resume RUN",
    "checkpoint_path": "--weights FILE of `switchnorm eval`",
    "save_result": "--save FILE.npz of `switchnorm eval`",
    "print_freq": "nothing to say, progress comes by time",
    "disp_iter": "nothing to say, progress comes by time",
    "local_rank": "set by torchrun",
    "rank": "set by torchrun",
    "world_size": "set by torchrun",
    "port": "set by torchrun",
    # torchvision's and timm's scripts
    "output": "--out DIR",
    "output_dir": "--out DIR",
    # SwitchNorm_Segmentation
    "id": "--out DIR",
    "fc_dim": "told by the encoder of --model ENCODER+DECODER",
    "num_class": "told by the dataset",
    "optim": "--optimizer.name NAME",
    "test_img": "a picture behind `switchnorm predict`, without a flag",
    "model_path": "--weights ENCODER DECODER of `switchnorm predict`",
    "arch_encoder": "--model ENCODER+DECODER",
    "arch_decoder": "--model ENCODER+DECODER",
    "weights_encoder": "--train.warm_start ENCODER, or '[ENCODER, DECODER]'",
    "weights_decoder": "--train.warm_start '[ENCODER, DECODER]'",
    "list_train": "--data.train_list FILE",
    "list_val": "--data.val_list FILE",
    "root_dataset": "--data.root DIR",
    "num_gpus": "torchrun --nproc-per-node N, or --samples-per-gpu S on one device",
    "batch_size_per_gpu": "--samples-per-gpu S with --train.batch_size for all devices",
    "num_epoch": "--train.epochs N",
    "epoch_iters": "--train.epoch_steps N",
    "lr_encoder": "--optimizer.lr RATE, or --optimizer.groups for the encoder's own",
    "lr_decoder": "--optimizer.lr RATE, or --optimizer.groups for the decoder's own",
    "lr_pow": "--schedule.power P",
    "beta1": "--optimizer.momentum M",
    "deep_sup_scale": "--segmentation.deep_supervision WEIGHT",
    "fix_bn": "--train.eval_mode true",
    "imgSize": "--data.short_sides '[300, 375, 450, 525, 600]' in training, --scales of `switchnorm eval`",
    "imgMaxSize": "--data.longest PIXELS",
    "padding_constant": "--data.multiple PIXELS",
    "segm_downsampling_rate": "--data.label_stride PIXELS",
    "random_flip": "--data.flip BOOL",
    "ckpt": "--out DIR",
    "suffix": "--checkpoint epoch:N of `switchnorm eval`",
    "visualize": "--pictures DIR of `switchnorm eval`",
    "result": "--pictures DIR of `switchnorm eval`, --out DIR of `switchnorm predict`",
    "num_val": "--limit N of `switchnorm eval`",
}


class UnknownFlagError(InputError):
    """A flag or key that nobody knows, and what it may have been meant to be.

    Args:
        what, flag, known: as of `unknown_flag`.
    """

    def __init__(self, what: str, flag: str, known: Iterable[str]) -> None:
        self.what, self.flag, self.known = what, flag, tuple(known)
        here = HERE.get(flag.lstrip("-").rpartition(".")[2].replace("-", "_"))
        super().__init__(
            str(unknown(what, flag, self.known))
            if here is None
            else f"{what} {flag!r} is another tool's; here it is {here}"
        )

    def among(self, more: Iterable[str]) -> UnknownFlagError:
        """The same error where a flag may also be one of these, which the command has beside the configuration's."""
        return UnknownFlagError(self.what, self.flag, (*more, *self.known)) if self.flag.startswith("-") else self


def unknown_flag(what: str, flag: str, known: Iterable[str]) -> UnknownFlagError:
    """The error about a flag that is unknown: what it is called here, or the nearest of those that are known.

    Args:
        what: "flag", or "key" of a recipe.
        flag: "--wd", "-b" or "train.wd".
        known: flags or keys.
    """
    return UnknownFlagError(what, flag, known)

"""The configuration of a run: what a recipe may say, what a flag may change, what the run folder keeps.

This module needs neither torch nor Lightning, so that a wrong flag is reported at once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from switchnorm.text import expanded

Device: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]


@dataclass
class ModelConfig:
    """The network.

    Args:
        name: as `switchnorm.list_models()` knows it.
        norm: bn, gn, gn:G, in, ln, sn, ssn, ibn, bcn, bcn:G, or a registered one of the user's; with +ws for
            weight-standardized convolutions. null takes what the name says.
        norms: of parts of a network for detection in place of `norm`: body, neck, box and mask, as far as it has them;
            "none" for convolutions with a bias and no normalization, in all but the body.
        conv: "ws" for weight-standardized convolutions, another way to say +ws.
        options: what else the network takes, by name, for example its dropout.
    """

    name: str
    norm: str | None = None
    norms: dict[str, str] = field(default_factory=dict)
    conv: Literal["", "ws"] = ""
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class TrainConfig:
    """The training.

    Args:
        epochs: how often the network is validated and saved; each is a pass over the training set, or `epoch_steps`.
        epoch_steps: batches of an epoch; null takes those of one pass over the training set.
        batch_size: samples per step, over all devices.
        eval_batch_size: samples per batch of validation and evaluation, over all devices; null takes batch_size.
        samples_per_gpu: size of the ghost batches, groups of samples over which batch statistics are taken as GPUs
            without synchronisation take them; null takes each device's share of the batch.
        sync: whether batch statistics span all devices.
        frozen_statistics: whether batch statistics are the running ones that the network starts with, never those of a
            batch ("frozen BN"); scale and shift are trained all the same, under dropout. Or a glob over the names of
            the layers for which it is so, as "encoder.*" where a decoder begins at random. Best with warm_start.
        freeze: globs over the names of modules that stay bit for bit what they begin as, with all that is inside of
            them: no gradient and evaluation mode, as ["body.stem", "body.layer1"]. Best with warm_start.
        eval_mode: whether the network is trained in evaluation mode: statistics as with frozen_statistics, and no
            dropout either; parameters are trained as usual. Best with warm_start.
        calibrate: over how many training batches running statistics are averaged anew before each validation, with the
            weights that are evaluated; these are evaluated and kept, training goes on with its own. 0 evaluates the
            moving averages.
        iteration_size: batches whose gradients are averaged into one optimizer step.
        label_smoothing: in [0, 1).
        precision: of the computation: 32, bf16 or 16 (mixed with float32 weights), or 64.
        device: auto, cpu, cuda or mps; several of them through torchrun.
        strategy: what each of several processes holds. auto is all of the network; fsdp (FSDP2) a share of its
            parameters, gradients and optimizer states, which are gathered part by part as they are needed, for networks
            that are too large otherwise. One process holds all in any case.
        checkpoint_minutes: how often a checkpoint is written inside an epoch, besides the one after each epoch.
        patience: validations without a better score after which the run ends, as finished; the learning rate's schedule
            stays that of `epochs`. null for never.
        loggers: where scalars go besides the run's tables: tensorboard, wandb, mlflow.
        on_divergence: what becomes of a step whose loss, gradients or running statistics are not finite. stop ends the
            run, as diverged; skip leaves the step out, counts it, and ends after 20 in a row.
        snapshot_epochs: after how many epochs, time and again, the evaluated weights are kept for good, as
            checkpoints/epoch-N.ckpt; null for never.
        ema: decay of an exponential moving average of the weights, which is then what is evaluated and kept as the
            result; null for none.
        mixup: alpha of mixup (Zhang et al., 2018): every picture is blended with another, and so are their labels; 0
            for none. With cutmix, each batch draws one of the two.
        cutmix: alpha of CutMix (Yun et al., 2019): a rectangle of every picture shows another; 0 for none.
        channels_last: whether the network and its pictures have PyTorch's channels-last memory format.
        compile: whether the network is compiled by torch.compile, which needs a C++ compiler on the machine.
        deterministic: whether nondeterministic operations are replaced by deterministic ones, or refused if there are
            none.
        cuda_graph: whether the network's forward and backward pass are recorded once and replayed, so that a small
            network does not wait for Python; on one CUDA device, without compile and iteration_size.
        warm_start: a checkpoint whose weights the network starts with, as far as they fit, or the two of an encoder
            and a decoder, [ENCODER, DECODER]; null for none.
        start: how other normalizers begin where `warm_start` has Batch Norm, SN or SSN: auto or source at nearly what
            these computed, after Batch Norm SN and SSN with most importance at the batch statistic, scale and shift
            making up for the rest; equal with the file's scale and shift and the same importance of all. source stops
            where nothing can.
        start_epoch: epochs that count as done: training begins with the next one, at its learning rate, its data and
            SSN's radius, and ends with `epochs` as ever. Needs warm_start, whose weights it goes on from.
    """

    epochs: int
    batch_size: int
    eval_batch_size: int | None = None
    epoch_steps: int | None = None
    samples_per_gpu: int | None = None
    sync: bool = False
    frozen_statistics: bool | str = False
    freeze: list[str] = field(default_factory=list)
    eval_mode: bool = False
    calibrate: int = 0
    iteration_size: int = 1
    label_smoothing: float = 0.0
    precision: Literal["32", "bf16", "16", "64"] = "32"
    device: Device = "auto"
    strategy: Literal["auto", "fsdp"] = "auto"
    checkpoint_minutes: float = 5.0
    patience: int | None = None
    loggers: list[str] = field(default_factory=lambda: ["tensorboard"])
    on_divergence: Literal["stop", "skip"] = "stop"
    snapshot_epochs: int | None = None
    ema: float | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    channels_last: bool = False
    compile: bool = False
    deterministic: bool = False
    cuda_graph: bool = False
    warm_start: list[str] | str | None = None
    start: Literal["auto", "equal", "source"] = "auto"
    start_epoch: int = 0

    @property
    def start_files(self) -> list[str]:
        """The files of `warm_start`: none, one, or an encoder's and a decoder's."""
        files = [] if self.warm_start is None else self.warm_start
        return [str(expanded("train.warm_start", file)) for file in ([files] if isinstance(files, str) else files)]

    @property
    def test_batch(self) -> int:
        """Samples per batch of validation and evaluation, over all devices."""
        return self.batch_size if self.eval_batch_size is None else self.eval_batch_size


@dataclass
class GroupConfig:
    """How some of the parameters are trained.

    Args:
        match: a glob over the names of parameters, for example "layer1.*"; the first that matches a parameter decides.
        lr_factor: multiplies their learning rate.
        weight_decay: of these parameters; null takes that of all others.
    """

    match: str
    lr_factor: float = 1.0
    weight_decay: float | None = None


@dataclass
class OptimizerConfig:
    """The optimizer.

    Args:
        name: as torch.optim has it, in lower case: sgd, adamw, adam, rmsprop, ...
        options: what else its constructor takes, by name: betas, eps, ...
        lr: the learning rate, which the schedule multiplies.
        lr_per: for how many samples per optimizer step `lr` is given; it is scaled linearly to those of this run,
            batch_size * iteration_size (Goyal et al., 2017). null leaves it as it is.
        momentum: of sgd and of others that take one, in [0, 1); null is 0.9 for sgd, and torch's default for others.
        nesterov: whether it is Nesterov's momentum; null is true for sgd, and torch's default for others.
        weight_decay: of every parameter but the importance logits.
        decay_norms: whether that includes biases and the normalizers' scale and shift.
        decay_logits: whether it includes the importance logits, as in SN's published training; SSN's never decay.
        bias_lr_factor: multiplies the learning rate of biases and of the normalizers' shift (2 in Detectron).
        scale_momentum: whether a step at a rate that is more than 10 % another than the last one's multiplies sgd's
            momentum by the ratio of both, as Detectron does.
        groups: parameters with a learning rate or weight decay of their own; importance logits take the latter only
            where they decay.
        sparse_lr_factor: multiplies the learning rate of SSN's importance logits.
        sparse_clip_norm: the largest norm of the gradient of SSN's importance logits together.
        clip_norm: the largest norm of the gradient of all parameters together; null for none.
    """

    name: str = "sgd"
    options: dict[str, Any] = field(default_factory=dict)
    lr: float = 0.1
    lr_per: int | None = None
    momentum: float | None = None
    nesterov: bool | None = None
    weight_decay: float = 1e-4
    decay_norms: bool = True
    decay_logits: bool = False
    bias_lr_factor: float = 1.0
    scale_momentum: bool = False
    groups: list[GroupConfig] = field(default_factory=list)
    sparse_lr_factor: float = 0.1
    sparse_clip_norm: float = 1.0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        """Fill in what null means for SGD, so that a run's config.yaml shows it."""
        if self.name == "sgd":
            self.momentum = 0.9 if self.momentum is None else self.momentum
            self.nesterov = True if self.nesterov is None else self.nesterov


@dataclass
class ScheduleConfig:
    """The learning rate over the run; together the keys make every schedule of SN's and SSN's published training. And
    SSN's radius, which grows linearly over all of the run in the published one.

    Args:
        name: step, cosine or polynomial.
        milestones: epochs after which step multiplies the rate by gamma.
        gamma: factor of step.
        power: exponent of polynomial.
        final_lr: where cosine and polynomial end, in the units of optimizer.lr, and scaled with it.
        warmup_epochs: the first epochs, over which the rate rises or stays low.
        warmup_steps: the same in optimizer steps, in place of warmup_epochs.
        warmup: "linear" rises to the full rate, "constant" stays at warmup_lr.
        warmup_lr: the rate of the first step, in the units of optimizer.lr, and scaled with it; the first step after
            the warm-up has the full one. null rises from 0, so that the warm-up's last step has the full rate already.
        warmup_from: the same as a share of optimizer.lr, in place of warmup_lr (1/3 in Detectron).
        by: whether the rate changes with every optimizer step, or only where an epoch begins.
        radius_start, radius_end: where SSN's radius leaves 0 and where it reaches 1, as fractions of the run.
        radius_power: how it grows between them; 1 is linear, above 1 grows slowly at first.
    """

    name: Literal["step", "cosine", "polynomial"] = "cosine"
    milestones: list[int] = field(default_factory=list)
    gamma: float = 0.1
    power: float = 0.9
    final_lr: float = 0.0
    warmup_epochs: float = 0.0
    warmup_steps: int = 0
    warmup: Literal["linear", "constant"] = "linear"
    warmup_lr: float | None = None
    warmup_from: float | None = None
    by: Literal["step", "epoch"] = "step"
    radius_start: float = 0.0
    radius_end: float = 1.0
    radius_power: float = 1.0


@dataclass
class Config:
    """A whole run.

    Args:
        model: the network.
        data: `name`, and the arguments of that dataset's class in `switchnorm.data`.
        train: the training.
        optimizer: what takes the steps.
        schedule: the learning rate over the run.
        tasks: the sections that belong to one task each, by its name; see `switchnorm.config.task_spec.TaskSpec`.
        claim: what is reported elsewhere for this very training, shown beside the result: in % under the keys of the
            tasks' claims, null where it is not reported; `source`, who reported it and where; `status`, where it
            stands, for example "not rerun here"; and `warm_start`, whether that training began with other weights, so
            that the claim is shown only where `train.warm_start` names some.
        task: what the labels are for, which the dataset decides.
        plugins: modules of the user's own, which register normalizers, datasets, networks or tasks.
        label: what reports call the run, instead of its normalizer; null for that.
        seed: of the initial weights, the order of samples, augmentation and dropout.
        given: the keys of `data` that a recipe or flag has set; None for all that are there.
    """

    model: ModelConfig
    data: dict[str, Any]
    train: TrainConfig
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    tasks: dict[str, Any] = field(default_factory=dict)
    claim: dict[str, Any] = field(default_factory=dict)
    task: str = "classification"
    plugins: tuple[str, ...] = ()
    label: str | None = None
    seed: int = 0
    given: frozenset[str] | None = field(default=None, compare=False)

    @property
    def own(self) -> Any:
        """The section of the run's own task; None where it has none."""
        return self.tasks.get(self.task)

    def content(self) -> dict[str, Any]:
        """The configuration as a recipe says it, section by section."""
        content = asdict(self)
        del content["given"]
        sections, plugins = content.pop("tasks"), list(content.pop("plugins"))
        before = {key: content.pop(key) for key in (*SECTIONS, "data") if key in content}
        ordered = {key: before[key] for key in ("model", "data", "train", "optimizer", "schedule")}
        return {**ordered, **sections, **content, **({"plugins": plugins} if plugins else {})}


#: Sections of every run's configuration whose constructor is their schema.
SECTIONS = {"model": ModelConfig, "train": TrainConfig, "optimizer": OptimizerConfig, "schedule": ScheduleConfig}

"""The model card of a network: README.md of its repository, with the front matter that the Hugging Face Hub reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from switchnorm import __version__
from switchnorm.config.claim import beside
from switchnorm.config.task_spec import TaskSpec, tasks
from switchnorm.deploy.description import Description
from switchnorm.deploy.markdown import rows, section, table, text
from switchnorm.errors import InputError
from switchnorm.runs.durations import duration
from switchnorm.runs.geometries import Geometry
from switchnorm.runs.run import Run

#: Classes that a card names.
_MOST = 40
#: From this importance on a layer counts as having chosen a statistic.
_CHOSEN = 0.999


def model_card(
    about: Description, name: str, *, run: Run | None = None, licence: str | None = None, parameters: int | None = None
) -> str:
    """The text of README.md.

    Args:
        about: the network.
        name: of its repository, "org/name".
        run: that trained it; None where no run is known, and then the card says nothing of its training.
        licence: as the hub writes it, "apache-2.0"; None leaves it open.
        parameters: how many numbers the network has.
    """
    spec = tasks().get(about.task)
    matter = yaml.safe_dump(_front_matter(about, name, spec, run, licence), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{matter}---",
        f"# {text(name.partition('/')[2])}",
        _summary(about, run),
        _use(about, name),
        *section("The network", table(_network(about, parameters))),
        *section("Training", table(_training(run)) if run is not None else ""),
        *section("Results", _results(about, spec)),
        *section("What the layers chose", _choices(about)),
        *section("Files", _files(licence)),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(
    about: Description, name: str, spec: TaskSpec | None, run: Run | None, licence: str | None
) -> dict[str, Any]:
    found: dict[str, Any] = {"library_name": "switchnorm"}
    if licence is not None:
        found["license"] = licence
    if spec is not None and spec.pipeline:
        found["pipeline_tag"] = spec.pipeline
    source, colon, network = str((about.network or {}).get("name", "")).rpartition(":")
    tags = ("switchnorm", "normalization", source if colon else "", network, _norm(about))
    found["tags"] = [*dict.fromkeys(filter(None, tags))]
    measured = list(_measured(about, spec))
    if measured and spec is not None:
        data = _data(run)
        found["metrics"] = [title for title, _ in measured]
        result = {
            "task": {"type": spec.pipeline or spec.name, "name": spec.name},
            "dataset": {"type": data, "name": data, "split": "validation"},
            "metrics": [{"type": title, "name": title, "value": round(value, 6)} for title, value in measured],
        }
        found["model-index"] = [{"name": name.partition("/")[2], "results": [result]}]
    return found


def _measured(about: Description, spec: TaskSpec | None) -> Iterator[tuple[str, float]]:
    """What was measured, by its title, the score first; no losses."""
    for metric in () if spec is None else spec.metrics:
        if metric.column in about.results:
            yield metric.title, about.results[metric.column]


def _data(run: Run | None) -> str:
    return "its validation data" if run is None else str((run.config.get("data") or {}).get("name"))


def _norm(about: Description) -> str:
    """The normalizer, as it was asked for, or as the network's name implies it."""
    network = about.network or {}
    switched = dict.fromkeys(str(each.get("norm")) for each in network.get("switched") or ())
    return about.norm or network.get("norm") or ", ".join(switched) or ""


def _summary(about: Description, run: Run | None) -> str:
    network = text((about.network or {}).get("name", "a network"))
    norm = _norm(about)
    what = f"`{network}`" + (f" with `{text(norm)}` as its normalization" if norm else "")
    task = "" if about.task not in tasks() else f" for {about.task}"
    data = "" if run is None else f", trained on `{text(_data(run))}`"
    return f"{what}{task}{data}, by switchnorm: networks whose layers choose the statistics that they normalize by."


def _use(about: Description, name: str) -> str:
    python = [
        "import switchnorm",
        "",
        f'net = switchnorm.load("hf-hub:{name}")',
        'print(net.predict("picture.jpg"))'
        if about.predicts
        else "outputs = net.runtime(images)  # as described below",
    ]
    shell = ["pip install 'switchnorm[train,hub]'"] + (
        [f"switchnorm predict hf-hub:{name} picture.jpg"] if about.predicts else []
    )
    lines = ["## Use", "", "```bash", *shell, "```", "", "```python", *python, "```"]
    if about.preparation is None:
        lines += [
            "",
            "Nobody has said how pictures are shown to this network: `images` are what it takes, float32 (N, C, H, W).",
        ]
    elif not about.predicts:
        lines += ["", "`images` are 8-bit pixels, uint8 (N, C, H, W), and what comes out is as the network has it."]
    plugins = (about.network or {}).get("plugins") or ()
    if plugins:
        names = ", ".join(f"`{text(each)}`" for each in plugins)
        lines += ["", f"It needs {names}, which registers what it is made of: import that first, or say `--plugins`."]
    return "\n".join(lines)


def _network(about: Description, parameters: int | None) -> Iterator[tuple[str, str]]:
    network = about.network or {}
    yield "network", f"`{text(network.get('name', 'unknown'))}`"
    for entry, title in (("options", "options"), ("norms", "normalization of parts")):
        if network.get(entry):
            yield title, ", ".join(f"`{text(key)}={text(value)}`" for key, value in network[entry].items())
    if _norm(about):
        yield "normalization", f"`{text(_norm(about))}`"
    for each in network.get("switched") or ():
        options = ", ".join(f"{key}={value}" for key, value in (each.get("options") or {}).items())
        count = len(each["layers"])
        yield f"switched to `{text(each['norm'])}`", f"{count} layers{f', {text(options)}' if options else ''}"
    if parameters is not None:
        yield "parameters", f"{parameters:,}"
    if about.classes:
        more = f", and {len(about.classes) - _MOST} more" if len(about.classes) > _MOST else ""
        yield f"{len(about.classes)} classes", ", ".join(map(text, about.classes[:_MOST])) + more
    if about.preparation is not None and not about.raw:
        yield from _pictures(about.preparation)
    for key, value in about.inference.items():
        yield key.replace("_", " "), text(value)


def _pictures(preparation: Any) -> Iterator[tuple[str, str]]:
    entries = preparation.to_dict()
    rule = entries.pop("rule")
    sides = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in rule.items() if key != "kind")
    yield "pictures", text(f"{rule['kind'].replace('_', ' ')}: {sides}; {entries['interpolation']}")
    for key in ("mean", "std"):
        yield key, text(", ".join(f"{value:.6g}" for value in entries[key]) + " (of pixels from 0 to 255)")
    for key, usual in (("scale", 1.0), ("order", "rgb"), ("bands", None), ("range", None)):
        if entries[key] != usual:
            yield key, text(entries[key])


def _training(run: Run | None) -> Iterator[tuple[str, str]]:
    if run is None:
        return
    settings, record = run.settings, run.provenance
    data = {key: value for key, value in (run.config.get("data") or {}).items() if key not in _LOCAL}
    yield "data", ", ".join(f"`{text(key)}={text(value)}`" for key, value in data.items() if value is not None)
    batch, samples = settings.get("train.batch_size"), settings.get("train.samples_per_gpu")
    if isinstance(batch, int) and isinstance(samples, int) and 0 < samples <= batch:
        geometry = Geometry(-(-batch // samples), samples)
        sync = ", statistics over all of them" if settings.get("train.sync") else ""
        yield "geometry", f"{geometry} (GPUs x samples per GPU of batch statistics){sync}"
    for key, title in _SETTINGS.items():
        value = settings.get(key)
        if value not in (None, "", False, 0, []) or key == "seed":
            yield title, text(value)
    yield "epochs done", f"{int(run.metrics[-1]['epoch'] or 0)}{'' if run.finished else ', not finished'}"
    if isinstance(record.get("seconds"), int | float):
        yield "time", text(duration(record["seconds"]))
    hardware = record.get("hardware")
    if isinstance(hardware, Mapping):
        yield "hardware", text("; ".join(f"{key} {value}" for key, value in hardware.items()))
    versions = record.get("versions")
    if isinstance(versions, Mapping):
        yield "versions", text(", ".join(f"{key} {value}" for key, value in versions.items()))
    if isinstance(record.get("warm_start"), Mapping):
        yield "began with", text(", ".join(f"{key} {value}" for key, value in record["warm_start"].items() if value))


#: Keys of the data that say where it lies on one machine.
_LOCAL = ("name", "root", "workers", "train_folder", "val_folder", "train_list", "val_list", "classes_file")
#: Settings that a card names, where they are not off.
_SETTINGS = {
    "train.batch_size": "batch size",
    "train.epochs": "epochs planned",
    "optimizer.name": "optimizer",
    "optimizer.lr": "learning rate",
    "optimizer.weight_decay": "weight decay",
    "schedule.name": "schedule",
    "train.precision": "precision",
    "train.label_smoothing": "label smoothing",
    "train.mixup": "mixup",
    "train.cutmix": "cutmix",
    "train.ema": "moving average of weights",
    "train.calibrate": "batches of calibration",
    "train.frozen_statistics": "frozen statistics",
    "seed": "seed",
}


def _results(about: Description, spec: TaskSpec | None) -> str:
    measured = list(_measured(about, spec))
    counted = table([(title, f"{100 * value:.2f} %") for title, value in measured], ("measured", ""))
    lines = [counted] if measured else []
    if measured:
        lines.append("Measured on the validation data of the run, with these weights, by switchnorm.")
    if measured and spec is not None and spec.remark:
        lines.append(text(spec.remark))
    claim = beside(about.claim, about.task, about.results) if spec is not None and about.claim else None
    if claim:
        lines.append(f"Beside what others report for this training: {text(claim)}.")
    return "\n\n".join(lines)


def _choices(about: Description) -> str:
    if not about.layers:
        return ""
    shared = []
    for of, title in (("mean", "mean"), ("var", "variance")):
        layers = [chosen[of] for chosen in about.layers.values() if of in chosen]
        for name in dict.fromkeys(name for shares in layers for name in shares):
            shares = [each[name] for each in layers if name in each]
            alone = sum(share >= _CHOSEN for share in shares)
            shared.append((title, name, f"{100 * sum(shares) / len(shares):.1f} %", f"{alone} of {len(shares)}"))
    head = ("moment", "statistic", "mean importance", "layers that chose it alone")
    each = [
        (f"`{text(layer)}`", *(_shares(chosen.get(of, {})) for of in ("mean", "var")))
        for layer, chosen in about.layers.items()
    ]
    folded = rows(("layer", "mean", "variance"), each)
    return f"{rows(head, shared)}\n\n<details><summary>Every layer</summary>\n\n{folded}\n\n</details>"


def _shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{text(name)} {share:.3f}" for name, share in shares.items() if share > 0)


def _files(licence: str | None) -> str:
    lines = [
        "- `model.safetensors`: the weights as they were trained, not folded, so that they can be trained on and "
        "looked at; `switchnorm.fold` and `switchnorm export` make the fast form of them.",
        "- `config.json`: which network it is, and how pictures are shown to it. Nothing in either file is code.",
    ]
    if licence is None:
        lines.append("- A license is not stated; ask the owners of this repository.")
    return "\n".join([*lines, "", f"Written by switchnorm {__version__}."])


def check_licence(licence: str | None) -> None:
    """Raise `InputError` for a license that the hub would not take for one."""
    if licence is not None and not (
        licence.isascii() and licence.islower() and licence.isprintable() and " " not in licence
    ):
        raise InputError(f"license {licence!r} is none of the hub's names, such as 'apache-2.0', 'mit' or 'other'")

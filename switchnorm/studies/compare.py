"""Any variants of one training, each with several seeds: a table of mean and spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from switchnorm.config.cluster import Cluster
from switchnorm.config.limits import check
from switchnorm.config.recipe import read_config
from switchnorm.config.schema import Config
from switchnorm.errors import InputError
from switchnorm.recipes import find_recipe, is_file_name
from switchnorm.report.common.groups import display_norm
from switchnorm.report.common.missing import missing
from switchnorm.studies.collected import CollectedStudy
from switchnorm.studies.progress import cost
from switchnorm.studies.study import check_flags, device_of, earlier_facts, origin, side_by_side
from switchnorm.studies.variants import Variant

SEEDS = (0, 1, 2)

#: What the study sets for each run, and the flag that does.
_SETS = {"label": "--variants", "seed": "--seeds", "train.device": "--device"}


@dataclass(kw_only=True)
class Comparison(CollectedStudy):
    """Variants of one training, to be compared.

    Args:
        variants: by the name that its runs have.
    """

    variants: Mapping[str, Variant]

    @property
    def notes(self) -> list[str]:
        """What the table lacks, in words."""
        left = self.left_out.values()
        failed = [
            (f"{config.label or display_norm(str(config.model.norm))}, seed {config.seed}", why)
            for config, why in left
            if why
        ]
        return list(missing(failed, len(left) - len(failed)))

    def check(self, name: str, config: Config) -> Sequence[str]:
        """As of any study; errors name the variant."""
        try:
            return super().check(name, config)
        except InputError as error:
            raise InputError(f"{self.variants[name].where}: {error}") from error

    def facts(self, command: Sequence[str], seconds: float) -> dict[str, Any]:
        """With what each variant changes, those of earlier commands too."""
        earlier = earlier_facts(self.out).get("variants")
        changes = {name: " ".join(flag[2:] for flag in variant.flags) for name, variant in self.variants.items()}
        return {
            **super().facts(command, seconds),
            "variants": {**(earlier if isinstance(earlier, dict) else {}), **changes},
        }


def plan_comparison(
    out: Path,
    variants: Sequence[Variant],
    *,
    recipe: str,
    seeds: Sequence[int] = SEEDS,
    device: str = "auto",
    workers: int | None = None,
    cluster: Cluster | None = None,
    flags: Sequence[str] = (),
) -> Comparison:
    """What a comparison will train; nothing is written or trained yet.

    Args:
        out: the folder for everything.
        variants: the rows.
        recipe: name of a shipped recipe, or a YAML file, that all variants share.
        seeds: of each variant.
        device: "auto" is CUDA where it is there, else the CPU.
        workers: trainings side by side; None takes as many as the device has room for.
        cluster: where they are trained; None is this machine.
        flags: for the configuration of every run, as `switchnorm train` takes them; a variant wins over them.

    Raises:
        InputError: anything wrong with these; variants that train the same, or that are judged by different scores; a
            folder that holds a comparison of another recipe.
    """
    check_flags(flags, _SETS)
    _check_recipe(out, recipe)
    kind = device_of(device, cluster)
    plan: list[tuple[Path, Config]] = []
    names: dict[Path, str] = {}
    for variant, config in _configs(variants, recipe, [*flags, "--device", kind]):
        for seed in dict.fromkeys(seeds):
            path = out / "runs" / f"{variant.stem}-seed{seed}"
            names[path] = variant.name
            plan.append((path, check(replace(config, seed=seed))))
    # Seed by seed, so that a comparison that is interrupted has something of every variant.
    order = {seed: place for place, seed in enumerate(dict.fromkeys(seeds))}
    plan.sort(key=lambda item: (order[item[1].seed], -cost(item[1])))
    return Comparison(
        out=out,
        plan=plan,
        names=names,
        variants={variant.name: variant for variant in variants},
        workers=side_by_side(workers, kind, plan, cluster),
        cluster=cluster,
        varied=("",),  # a folder may hold any other variants of the study
        origin=origin("compare", recipe, kind),
    )


def _check_recipe(out: Path, recipe: str) -> None:
    """Raise `InputError` where the folder's table is of another recipe: its runs would be rows of this one's."""
    there = earlier_facts(out).get("recipe")
    if isinstance(there, str) and _recipe_name(there) != _recipe_name(recipe):
        raise InputError(
            f"{str(out)!r} holds a comparison of recipe {there!r}, and this is one of {recipe!r}; choose another "
            "folder with --out"
        )


def _recipe_name(recipe: str) -> str:
    """A recipe's name; of a file its own, for it may be named from another folder."""
    return Path(recipe).name if is_file_name(recipe) else recipe


def _configs(variants: Sequence[Variant], recipe: str, shared: Sequence[str]) -> list[tuple[Variant, Config]]:
    """The configuration of each variant, but for its seed."""
    if not variants:
        raise InputError("a comparison needs --variants, at least one")
    found: list[tuple[Variant, Config]] = []
    for variant in variants:
        try:
            check_flags(variant.flags, _SETS)
            config = read_config(find_recipe(recipe), [*shared, *variant.flags])
        except InputError as error:
            raise InputError(f"{variant.where}: {error}") from error
        for other, known in found:
            if known.task != config.task:
                raise InputError(f"{variant.where}: its task is {config.task}, and that of {other.name!r} {known.task}")
            if replace(known, label=config.label) == config:
                raise InputError(f"{variant.where} trains the same as {other.name!r}; leave one of them out")
        found.append((variant, replace(config, label=variant.label)))
    return found

"""What a run was trained with is found again, and nothing else is taken for it."""

from __future__ import annotations

import pytest

from switchnorm.config.recipe import read_config
from switchnorm.config.schema import Config
from switchnorm.errors import InputError
from switchnorm.training.settings import changed_settings, settings_of

RECIPE = """
model: {name: resnet18_dilated16+c1_bilinear, norm: bn, options: {dropout: 0.1}}
data: {name: masks, root: there, values: {0: sky, 1: road}}
train: {epochs: 1, batch_size: 2}
"""


@pytest.fixture
def configured(tmp_path):
    """A configuration with flags."""

    def read(*flags: str, recipe: str = RECIPE) -> Config:
        path = tmp_path / "recipe.yaml"
        path.write_text(recipe)
        return read_config(path, flags)

    return read


def test_what_decides_nothing_may_differ(configured):
    now = configured("--data.root", "elsewhere", "--data.workers", "3", "--train.checkpoint_minutes", "9")
    assert changed_settings(settings_of(configured()), now, "it", allowed=False) == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--data.values", "{0: sky, 1: road, 2: tree}"), "data.values is {0: 'sky', 1: 'road', 2: 'tree'} in config"),
        (("--data.values", "{0: sky}"), "data.values is {0: 'sky'} in config.yaml"),
        (("--data.values", "{0: road, 1: sky}"), "data.values is {0: 'road', 1: 'sky'} in config.yaml"),
        (("--data.values", "null"), "data.values is None in config.yaml"),
        (("--data.range", "[0, 4095]"), "data.range is [0.0, 4095.0] in config.yaml"),
    ],
)
def test_options_of_data_that_are_changed_are_named(configured, flags, said):
    saved, now = settings_of(configured()), configured(*flags)
    with pytest.raises(InputError, match="go on with this one by --data-changed") as caught:
        changed_settings(saved, now, "it", allowed=False)
    assert str(caught.value).startswith(said)
    key = flags[0].removeprefix("--")
    assert changed_settings(saved, now, "it", allowed=True) == [
        f"{key} {saved[key]!r} -> {settings_of(now)[key]!r}",
    ]


@pytest.mark.parametrize("options", ["{}", "{dropout: 0.2}", "{dropout: 0.1, more: 1}"])
def test_options_of_networks_may_not_change(configured, options):
    now = configured(recipe=RECIPE.replace("{dropout: 0.1}", options))
    with pytest.raises(InputError, match=r"model.options is .*; put that back, or begin another run"):
        changed_settings(settings_of(configured()), now, "it", allowed=True)

"""Variants of a training, from a command line and from a file."""

import pytest

from switchnorm.errors import InputError
from switchnorm.studies.variants import read_variants


def test_a_norm_is_a_variant_without_a_name_of_its_own():
    bn, grouped = read_variants(["bn", "gn:4"])
    assert (bn.flags, bn.label, bn.stem) == (("--model.norm=bn",), None, "bn")
    assert (grouped.flags, grouped.label, grouped.stem) == (("--model.norm=gn:4",), None, "gn4")


def test_a_name_comes_before_the_keys_that_it_changes():
    (frozen,) = read_variants(["Frozen BN: norm=bn train.frozen_statistics=true"])
    assert (frozen.label, frozen.flags) == ("Frozen BN", ("--norm=bn", "--train.frozen_statistics=true"))
    assert frozen.stem == "frozen-bn"
    (quoted,) = read_variants(["SN, two: --norm=sn model.options.statistics='[instance, layer]'"])
    assert quoted.flags == ("--norm=sn", "--model.options.statistics=[instance, layer]")
    (plain,) = read_variants(["as it is: "])
    assert (plain.label, plain.flags) == ("as it is", ())


def test_a_file_holds_what_recipes_would_say(tmp_path):
    file = tmp_path / "variants.yaml"
    file.write_text(
        """
GN + WS: {model: {norm: gn+ws}}
Frozen BN:
  model: {norm: bn, options: {momentum: null}}
  train: {frozen_statistics: true, warm_start: [a.pt, b.pt]}
  optimizer: {weight_decay: 1.0e-5, groups: [{match: "layer1.*", lr_factor: 0.1}]}
as it is:
"""
    )
    grouped, frozen, plain, bare = read_variants([str(file), "sn"])
    assert (grouped.stem, grouped.flags) == ("gn+ws", ("--model.norm=gn+ws",))
    assert frozen.flags == (
        "--model.norm=bn",
        "--model.options.momentum=null",
        "--train.frozen_statistics=true",
        '--train.warm_start=["a.pt", "b.pt"]',
        "--optimizer.weight_decay=1e-05",
        '--optimizer.groups=[{"match": "layer1.*", "lr_factor": 0.1}]',
    )
    assert (plain.flags, plain.label, bare.label) == ((), "as it is", None)
    assert frozen.where == f"{file}, line 3: variant 'Frozen BN'"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["norm=bn"], "variant 'norm=bn' is none; expected 'NAME: KEY=VALUE ...'"),
        (["frozen:"], "variant 'frozen:' is none"),
        ([""], "variant '' is none"),
        ([": norm=bn"], "must have a name"),
        (["a\x1bb: norm=bn"], "must have a name of printable characters"),
        (["frozen: norm=bn frozen_statistics"], "variant 'frozen': 'frozen_statistics' is no KEY=VALUE"),
        (["frozen: norm='bn"], "variant 'frozen': No closing quotation"),
        (["bn", "bn"], "variant 'bn': 'bn' would have the same folders"),
        (["Frozen BN: norm=bn", "frozen-bn: norm=bn"], "'Frozen BN' would have the same folders"),
        (["none.yaml"], "variants 'none.yaml' do not exist; expected"),
    ],
)
def test_what_is_no_variant(given, message):
    with pytest.raises(InputError) as caught:
        read_variants(given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sn: bn", "v.yaml, line 1: variant 'sn' must hold keys as a recipe does, {model: {norm: sn}}, got 'bn'"),
        ("sn: {model.norm: sn}", "v.yaml, line 1: key 'model.norm' must be a name without dots"),
        ("- sn", "v.yaml is no recipe"),
        ("a: {seed: 1}\na: {seed: 2}", "line 2: key 'a' is also set in line 1"),
    ],
)
def test_what_is_no_file_of_variants(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        read_variants(["v.yaml"])
    assert message in str(caught.value)

import copy
import json

import pytest
import timm
import torch
import torchvision
from torch import nn

import switchnorm
from switchnorm import InputError, create_model, switch
from switchnorm.deploy.network_entries import check_network
from switchnorm.deploy.rebuild import rebuilt
from switchnorm.deploy.recognised import network_of
from switchnorm.layers import norm_names


def trained(model):
    """The model with other weights and statistics than it begins with."""
    generator = torch.Generator().manual_seed(5)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and tensor.dim():
            noise = 0.1 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.data += noise.to(tensor.dtype)
    return model.eval()


def again(model, name=None):
    """The network as a file would hold it, and what is made of that."""
    network = json.loads(json.dumps(network_of(model, name)))
    state = copy.deepcopy(model.state_dict())
    made = rebuilt(check_network(network, "file"), state)
    made.load_state_dict(state)
    return network, made


def assert_same(made, model, shape=(2, 3, 40, 56)):
    x = torch.randn(shape, dtype=next(model.parameters()).dtype)
    with torch.no_grad():
        expected, found = model(x), made(x)
    if isinstance(expected, dict):
        expected, found = expected["out"], found["out"]
    assert torch.equal(found, expected)


def small(**options):
    return timm.create_model("test_resnet", num_classes=5, **options)


OFTEN = ("bn", "gn", "ssn")


@pytest.mark.parametrize(
    "norm", [*OFTEN, *(pytest.param(n, marks=pytest.mark.sweep) for n in norm_names() if n not in OFTEN)]
)
def test_a_timm_network_that_was_switched_by_hand_is_made_again_by_name(norm):
    model = trained(switch(small(), norm))
    network, made = again(model)
    assert network == {"name": "timm:test_resnet", "norm": norm, "num_classes": 5}
    assert_same(made, model)


def test_switches_of_some_layers_with_options_of_their_own_are_kept():
    model = small()
    switch(model, "ssn", include="layer1*", statistics=("instance", "layer"))
    switch(model, "gn:4+ws", include=["layer2*", "layer3*"])
    switch(model, "bcn", include="layer4*", momentum=0.05, eps=1e-3)
    network, made = again(trained(model))
    assert [each["norm"] for each in network["switched"]] == ["ssn+ws", "gn:4", "bcn"]
    assert network["switched"][0]["options"]["statistics"] == ["instance", "layer"]
    assert network["switched"][2]["options"] == {"momentum": 0.05, "eps": 1e-3}
    assert_same(made, model)


def of_torchvision():
    model = torchvision.models.mobilenet_v3_small(num_classes=4)
    return switch(model, "sn", momentum=0.3)


def with_another_classifier():
    model = torchvision.models.squeezenet1_1()
    model.classifier[1] = nn.Conv2d(512, 3, 1)
    model.num_classes = 3
    return model.double()


NETWORKS = {
    "torchvision": of_torchvision,
    "another classifier, float64": with_another_classifier,
    "ours": lambda: create_model("cifar_resnet20", norm="ssn+ws", statistics="layer,batch"),
    "ours, ghost batches": lambda: switchnorm.ghost(create_model("cifar_resnet20", norm="sn"), 2),
    "ours, switched": lambda: switch(create_model("cifar_resnet20"), "ln"),
    "options": lambda: create_model(
        "timm:vit_tiny_patch16_224", num_classes=3, img_size=(40, 56), patch_size=8, depth=1
    ),
    "encoder and decoder": lambda: create_model("resnet18_dilated8+c1_bilinear_deepsup", norm="gn", num_classes=3),
    "frozen batch norm": lambda: torchvision.models.mobilenet_v3_small(norm_layer=torchvision.ops.FrozenBatchNorm2d),
}


DEAR = ("torchvision", "options", "encoder and decoder")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.sweep] if name in DEAR else [])
        for name in NETWORKS
        if name != "frozen batch norm"
    ],
)
def test_networks_are_made_again_with_the_same_answers(name):
    model = trained(NETWORKS[name]())
    assert_same(again(model)[1], model)


def test_a_detector_is_made_again():
    norms = {"body": "bn", "neck": "sn"}
    model = create_model("resnet18_fpn16+faster_2fc", box_channels=16, norms=norms, num_classes=2)
    network, made = again(model.eval())
    assert network["norms"] == norms
    pictures = [torch.rand(3, 40, 56)]
    with torch.no_grad():
        expected, found = model(pictures)[0], made(pictures)[0]
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_a_name_may_be_given():
    model = trained(create_model("cifar_resnet20", norm="sn"))
    del vars(model)["_switchnorm_network"]
    assert again(model, "cifar_resnet20")[0]["norm"] == "sn"
    with pytest.raises(InputError, match="'cifar_resnet20x' is unknown"):
        network_of(model, "cifar_resnet20x")


def test_random_numbers_go_on_as_if_no_network_had_been_made():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    rebuilt({"name": "cifar_resnet20"})
    assert torch.equal(torch.rand(4), expected)


def changed():
    model = small()
    model.layer1 = nn.Identity()
    return model


REFUSED = {
    "a layer was taken out": (changed, r"layer1, and this network has Identity"),
    "nobody's": (lambda: nn.Sequential(nn.Conv2d(3, 3, 1)), "cannot be made again by a name.*network="),
    "options that are not remembered": (
        lambda: timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1),
        "make it by create_model, which remembers its options",
    ),
    "an option that is no data": (
        lambda: create_model("timm:test_resnet", act_layer=nn.SiLU),
        "option 'act_layer'.*no file can hold",
    ),
    "layers of somebody's own": (NETWORKS["frozen batch norm"], "FrozenBatchNorm2d"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_networks_that_no_name_makes_again_are_refused_with_the_reason(name):
    make, reason = REFUSED[name]
    with pytest.raises(InputError, match=reason):
        network_of(make())


ENTRIES = {
    "no mapping": ([], "describes no network"),
    "unknown entry": ({"name": "x", "nrom": "sn"}, "did you mean 'norm'"),
    "no name": ({"norm": "sn"}, "name is None, expected the name"),
    "a number as norm": ({"name": "x", "norm": 3}, "norm is 3"),
    "a flag as classes": ({"name": "x", "num_classes": True}, "num_classes is True"),
    "too many classes": ({"name": "cifar_resnet20", "num_classes": 10**9}, "expected 1 to"),
    "unknown network": ({"name": "cifar_resnet2"}, "nearest valid depth is 8"),
    "unknown layer": (
        {"name": "cifar_resnet20", "switched": [{"norm": "sn", "layers": ["bn9"]}]},
        "layer of 'cifar_resnet20' 'bn9' is unknown",
    ),
    "a switch without layers": ({"name": "cifar_resnet20", "switched": [{"norm": "sn"}]}, "a switch has norm"),
    "name as an option": ({"name": "cifar_resnet20", "options": {"norm": "sn"}}, "'norm' is no option"),
    "weights from somewhere": ({"name": "timm:test_resnet", "options": {"checkpoint_path": "x"}}, "checkpoint_path"),
    "pretrained": ({"name": "timm:test_resnet", "options": {"pretrained": True}}, "starts at random"),
    "a plugin": ({"name": "their_net", "plugins": ["their_plugin"]}, "needs their_plugin, to be imported first"),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_of_a_strangers_file_are_checked(name):
    network, reason = ENTRIES[name]
    with pytest.raises(InputError, match=reason):
        rebuilt(network, source="theirs")


def test_a_network_of_other_tensors_is_refused_before_it_takes_memory():
    state = create_model("cifar_resnet20").state_dict()
    with pytest.raises(InputError, match=r"'?fc|.* and the file has"):
        rebuilt({"name": "cifar_resnet20", "num_classes": 1 << 20}, state, "theirs")

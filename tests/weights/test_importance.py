import torch
from torch import nn

import switchnorm
from switchnorm.layers import SparseSwitchNorm2d, SwitchNorm1d, SwitchNorm2d
from switchnorm.weights import state_importance


def test_a_state_dict_tells_what_the_model_tells():
    model = nn.ModuleDict(
        {
            "sn": SwitchNorm2d(4),
            "flat": SwitchNorm1d(4, statistics=("layer", "batch")),
            "without_batch": SwitchNorm2d(4, statistics=("instance", "layer")),
            "ssn": SparseSwitchNorm2d(4),
            "final": SparseSwitchNorm2d(4),
        }
    )
    for layer in model.values():
        for logits in (layer.mean_weight, layer.var_weight):
            nn.init.normal_(logits)
    switchnorm.set_radius(model, 0.5)
    model["final"].set_radius(1.0)
    assert model["final"].harden()
    for by_state, by_model in zip(state_importance(model.state_dict()), switchnorm.importance(model), strict=True):
        assert by_state.layer == by_model.layer
        assert by_state.statistics == by_model.statistics
        assert by_state.frozen == by_model.frozen
        torch.testing.assert_close(by_state.mean, by_model.mean, atol=1e-6, rtol=0)
        torch.testing.assert_close(by_state.var, by_model.var, atol=1e-6, rtol=0)


def test_other_networks_have_none():
    assert state_importance(switchnorm.create_model("cifar_resnet20").state_dict()) == []

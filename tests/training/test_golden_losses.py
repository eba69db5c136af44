"""The loss trace of a short seeded run, which must not move under refactoring."""

from dataclasses import replace

import pytest
import torch

from switchnorm.config.recipe import read_config
from switchnorm.recipes import find_recipe
from switchnorm.training.build import prepare, total_steps
from switchnorm.training.optimizer import make_optimizer
from tests.golden import state_dict

#: The first five losses of digits/resnet9 in float64, ghost batches of 4, from stand-in weights: what torch draws for a
#: seed differs from processor to processor in the last digits, and Batch Norm over few samples makes much of them.
LOSSES = {
    "bn": [2.760987291593, 2.312746057811, 2.101402226576, 1.832168535047, 1.807743756492],
    "gn+ws": [2.530144302994, 2.290956146855, 2.294892114904, 2.113848348866, 2.198870253392],
    "sn": [2.339570164902, 2.171433818403, 2.174774594716, 1.914157312420, 1.900777148683],
    "ssn": [2.308583412384, 2.173187020842, 2.133011964010, 1.978897716374, 1.961881228064],
}


@pytest.mark.parametrize("norm", LOSSES)
def test_the_first_losses_stay(norm):
    config = read_config(find_recipe("digits/resnet9"), ["--norm", norm, "--samples-per-gpu", "4"])
    config = replace(config, schedule=replace(config.schedule, warmup_epochs=0))
    model, dataset = prepare(config)
    model.load_state_dict(state_dict({key: (list(x.shape), str(x.dtype)[6:]) for key, x in model.state_dict().items()}))
    model.double()
    optimizer, schedule = make_optimizer(model, total_steps=total_steps(config, dataset), config=config)
    losses = []
    for _, (images, labels) in zip(range(5), dataset.train_batches(batch_size=32, seed=0), strict=False):
        loss = torch.nn.functional.cross_entropy(model(images.double()), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    assert losses == pytest.approx(LOSSES[norm], rel=1e-9)

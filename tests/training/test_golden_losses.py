"""The loss trace of a short seeded run, which must not move under refactoring."""

from dataclasses import replace

import pytest
import torch

from switchnorm.config.recipe import read_config
from switchnorm.recipes import find_recipe
from switchnorm.training.build import prepare, total_steps
from switchnorm.training.optimizer import make_optimizer

#: The first five losses of digits/resnet9 in float64, seed 0, ghost batches of 2.
LOSSES = {
    "bn": [2.399927662, 2.218841224, 2.438598078, 2.334887766, 2.295656483],
    "gn+ws": [2.323185127, 2.252716428, 2.370763529, 2.184360307, 2.163168264],
    "sn": [2.368871344, 2.301782333, 2.334540249, 2.167401777, 2.167372966],
    "ssn": [2.368871344, 2.301795375, 2.334840594, 2.167399972, 2.168292255],
}


@pytest.mark.parametrize("norm", LOSSES)
def test_the_first_losses_stay(norm):
    config = read_config(find_recipe("digits/resnet9"), ["--norm", norm, "--samples-per-gpu", "2"])
    config = replace(config, schedule=replace(config.schedule, warmup_epochs=0))
    model, dataset = prepare(config)
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
    assert losses == pytest.approx(LOSSES[norm], rel=1e-6)

"""Hugging Face's Trainer.

python examples/huggingface_trainer.py --epochs 4
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from pictures import pictures
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments

import switchnorm


def main(arguments: Sequence[str] | None = None) -> torch.nn.Module:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--out", default="trainer_output", help="folder of the Trainer")
    options = parser.parse_args(arguments)
    data = [{"pixel_values": x, "labels": y} for x, y in pictures()]

    # In earnest ResNetForImageClassification.from_pretrained(NAME): switch afterwards, in the script that loads a
    # checkpoint as well, for the configuration knows nothing of it.
    config = ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=3)
    model = switchnorm.switch(ResNetForImageClassification(config), "ssn")

    training = TrainingArguments(
        options.out,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        lr_scheduler_type="cosine",
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_steps=10,
    )
    steps = options.epochs * len(data) // (training.train_batch_size * training.gradient_accumulation_steps)
    groups = switchnorm.parameter_groups(model, lr=options.lr, weight_decay=1e-4)
    optimizer = torch.optim.SGD(groups, lr=options.lr, momentum=0.9)
    switchnorm.SparseSchedule(optimizer, model, steps=steps)
    # The Trainer's own optimizer would decay the logits; the schedule of the rate is still its own.
    Trainer(model, training, train_dataset=data, optimizers=(optimizer, None)).train()

    for row in switchnorm.importance(model):
        print(row.layer, row.statistics, row.mean, row.var, "final" if row.frozen else "open")
    return model


if __name__ == "__main__":
    main()

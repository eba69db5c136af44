"""What tests of jobs have in common: a short training, and comparing one that was interrupted with one that was not."""

import torch

from switchnorm.config.recipe import read_config
from switchnorm.recipes import find_recipe
from switchnorm.studies.progress import epochs_done


def config(epochs=8):
    """A training of which each epoch takes a moment, of nine steps."""
    flags = (f"--epochs={epochs}", "--batch-size=160", "--norm=ssn", "--device=cpu")
    return read_config(find_recipe("digits/resnet9"), flags)


class Interrupting:
    """Watches trainings, and does something to the first of them once it has trained two epochs."""

    def __init__(self, path, interrupt):
        self.path, self.interrupt = path, interrupt
        self.began, self.outcomes, self.said = [], {}, []
        self.done = False

    def started(self, path):
        self.began.append(path)

    def ended(self, path, outcome):
        self.outcomes[path] = outcome

    def say(self, line):
        self.said.append(line)

    def tick(self):
        if not self.done and epochs_done(self.path) >= 2:
            self.done = True
            self.interrupt()


def assert_same(run, other):
    """Two runs have the same numbers bit for bit, but for seconds."""
    columns = [{name: row[name] for name in row if name != "images_per_second"} for row in run.metrics()]
    assert columns == [{name: row[name] for name in row if name != "images_per_second"} for row in other.metrics()]
    mine, theirs = (torch.load(each.last, weights_only=False) for each in (run, other))
    assert mine["state_dict"].keys() == theirs["state_dict"].keys()
    for name, value in mine["state_dict"].items():
        assert torch.equal(value, theirs["state_dict"][name]), name
    for state, expected in zip(mine["optimizer_states"], theirs["optimizer_states"], strict=True):
        for key, entries in state["state"].items():
            for name, value in entries.items():
                assert not torch.is_tensor(value) or torch.equal(value, expected["state"][key][name]), (key, name)

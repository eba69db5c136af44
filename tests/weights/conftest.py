"""A table of published checkpoints that knows the small network alone."""

from dataclasses import replace

import pytest

from switchnorm.weights import identity, published
from tests.weights.small import TABLE


@pytest.fixture
def small_published(monkeypatch):
    """A published checkpoint of a small network, as if the table had it: returns a function that adds it."""

    def add(**changes):
        usual = {"name": "small", "network": "none", "file": "small.pth", "md5": None}
        added = replace(published("resnetv1ssn50-8x2"), **(usual | changes))
        monkeypatch.setattr(identity, "PUBLISHED", (added,))
        monkeypatch.setattr(TABLE, "PUBLISHED", (added,))
        return added

    return add

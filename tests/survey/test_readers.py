"""Looking at many samples on all cores."""

import os
import signal
from typing import ClassVar

import pytest

from switchnorm.data.files.surveyed import Facts, Surveyed
from switchnorm.errors import InputError
from switchnorm.survey import readers
from switchnorm.survey.readers import look_in_processes, look_in_threads


def facts_of(item):
    return Facts(digest=item * item)


def end_itself(item):
    if item == 90:
        os.kill(os.getpid(), signal.SIGKILL)
    return Facts()


class Squares(Surveyed):
    look: ClassVar = staticmethod(facts_of)
    picture = None

    def __len__(self):
        return 203

    def item(self, index):
        return index

    def title(self, index):
        return str(index)


class Deadly(Squares):
    look: ClassVar = staticmethod(end_itself)


@pytest.mark.parametrize("look", [look_in_processes, look_in_threads])
def test_the_order_is_that_of_the_indices(look, monkeypatch):
    monkeypatch.setattr(readers, "cores", lambda: 2)
    indices = [*range(0, 203, 2), *range(1, 203, 2)]
    found = list(look(Squares("train"), indices))
    assert [index for index, _ in found] == indices
    assert [facts.digest for _, facts in found] == [index * index for index in indices]


def test_samples_are_not_fetched_far_ahead(monkeypatch):
    monkeypatch.setattr(readers, "cores", lambda: 2)
    asked = []

    class Counting(Squares):
        def item(self, index):
            asked.append(index)
            return index

    found = look_in_threads(Counting("train"), range(203))
    next(found)
    assert len(asked) < 12
    found.close()


def test_a_reader_that_the_system_ends_is_one_line(monkeypatch):
    monkeypatch.setattr(readers, "cores", lambda: 2)
    with pytest.raises(InputError, match=r"the system ended a process that looked at train pictures.*memory") as caught:
        list(look_in_processes(Deadly("train"), range(203)))
    assert "\n" not in str(caught.value)

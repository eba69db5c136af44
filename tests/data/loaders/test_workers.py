"""Reading in other processes; one file, because starting the first of them takes seconds."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys

import pytest
import torch

from switchnorm.data import Folder, Share
from switchnorm.data.loaders.picture_readers import PictureRequest, Pictures
from switchnorm.data.loaders.reader import Success
from switchnorm.data.loaders.workers import default_workers, read_batches
from switchnorm.errors import InputError
from tests.data.photos import truncate


def training(tree, workers, **options):
    data = Folder(str(tree), size=16, resize=20, workers=workers, rand_augment=1, **options)
    return data.train_batches(batch_size=3, seed=7, epochs=2)


def assert_same(left, right):
    assert len(left) == len(right)
    for (left_images, left_labels), (right_images, right_labels) in zip(left, right, strict=True):
        assert torch.equal(left_images, right_images)
        assert torch.equal(left_labels, right_labels)


def children():
    return [child for child in multiprocessing.active_children() if child.is_alive()]


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_reads_the_same_and_ends_with_the_epoch(tree, workers):
    expected, batches = training(tree, 0), training(tree, workers)
    for _ in range(2):
        iterator = iter(batches)
        got = list(itertools.islice(iterator, len(batches)))  # as Lightning does, which never asks beyond the last
        assert not children()
        assert_same(got, list(expected))
    test = [
        list(Folder(str(tree), size=16, resize=20, workers=number).test_batches(batch_size=4, views="ten"))
        for number in (0, workers)
    ]
    assert_same(*test)


def test_batches_read_ahead_do_not_count_and_an_abandoned_iteration_leaves_no_process(tree):
    whole = list(itertools.islice(endless(training(tree, 0)), 7))  # 4 to an epoch
    for handed_out in (1, 5):
        interrupted, resumed = training(tree, 2), training(tree, 1)
        list(itertools.islice(endless(interrupted), handed_out))
        state = interrupted.state_dict()
        assert state == {"epoch": handed_out // 4, "position": handed_out % 4}
        resumed.load_state_dict(state)
        assert_same(list(itertools.islice(endless(resumed), 7 - handed_out)), whole[handed_out:])
    assert not children()


def endless(batches):
    while True:
        yield from batches


def test_what_a_worker_finds_wrong_arrives_as_one_line(tree):
    truncate(tree / "train/cat/1.jpg")
    with pytest.raises(InputError, match=rf"^cannot read {tree}/train/cat/1.jpg \(.+\); bring it, or set") as caught:
        list(training(tree, 2))
    assert "\n" not in str(caught.value)
    del caught
    assert not children()


def test_what_workers_cannot_read_is_known_when_its_batch_is_handed_out(tree):
    for name in ("cat/1", "fox/1"):
        truncate(tree / f"val/{name}.jpg")
    data = Folder(str(tree), size=16, resize=20, workers=2, on_damaged="skip")
    batches = data.test_batches(batch_size=2)
    with pytest.warns(UserWarning, match="2 of 9 test pictures could not be read"):
        known = [list(batches.left_out) for _ in batches]
    assert known == [[1], [1], [1], [1, 7], [1, 7]]


def test_damage_that_workers_find_is_counted(tree):
    truncate(tree / "train/cat/1.jpg")
    truncate(tree / "train/fox/1.jpg")
    with pytest.warns(UserWarning, match="2 of 12 training pictures could not be read") as caught:
        list(training(tree, 2, on_damaged="skip"))
    assert len(caught) == 1


def test_the_runs_own_generator_is_not_drawn_from(tree):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for workers in (0, 1):
        list(training(tree, workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_requests_are_drawn_no_further_than_needed(tree):
    drawn = []
    reader = training(tree, 0).reader

    def requests():
        for place in range(12):
            drawn.append(place)
            yield PictureRequest(0, [place])

    batches = read_batches(reader, requests(), 12, 0, "cpu")
    assert [next(batches).request.samples for _ in range(3)] == [[0], [1], [2]]
    assert drawn == [0, 1, 2]


@pytest.mark.parametrize(("here", "workers"), [("1", 7), ("2", 3), ("8", 0), ("16", 0)])
def test_processes_on_one_machine_share_its_cores(monkeypatch, here, workers):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", here)
    assert default_workers() == workers


class SignalReader:
    """Answers with the signals that are blocked where it reads."""

    def __getitem__(self, request):
        blocked = [signal.Signals(number).name for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])]
        return Success(Pictures(request, torch.empty(0), torch.empty(0), blocked), [])


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signal masks are POSIX")
def test_ctrl_c_reaches_no_worker_from_its_first_moment_on_and_still_reaches_this_process():
    (pictures,) = read_batches(SignalReader(), [PictureRequest(0, [0])], 1, 1, "cpu")
    assert "SIGINT" in pictures.damaged
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


SCRIPT = """
import sys, time
from switchnorm.data import Folder

if __name__ == "__main__":
    batches = Folder(sys.argv[1], size=16, resize=20, workers=2).train_batches(batch_size=1, seed=0)
    try:
        for _ in batches:
            print("running", flush=True)
            time.sleep(300)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX")
def test_ctrl_c_ends_all_processes_without_a_word_of_theirs(tree, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", tree],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "running\n"
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does
        out, err = process.communicate(timeout=60)  # ends only when every process has closed the pipes
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert (process.returncode, out, err) == (0, "interrupted\n", "")


@pytest.mark.gpu
def test_a_gpu_gets_the_same_batches(tree):
    data = Folder(str(tree), size=16, resize=20, workers=2, random_erasing=0.5)
    places = [Share(device=device) for device in ("cuda", "cpu")]
    for on_gpu, on_cpu in (
        [data.train_batches(batch_size=3, seed=7, share=share) for share in places],
        [data.test_batches(batch_size=4, views="ten", share=share) for share in places],
    ):
        for (images, labels), (expected, same) in zip(on_gpu, on_cpu, strict=True):
            assert images.is_cuda
            assert labels.is_cuda
            torch.testing.assert_close(images.cpu(), expected, rtol=1e-5, atol=1e-5)
            assert torch.equal(labels.cpu(), same)

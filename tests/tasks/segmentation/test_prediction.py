"""Probabilities in bands against the plain computation on the whole, views and windows against what they should see."""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import switchnorm
import switchnorm.tasks.segmentation.prediction as prediction
from switchnorm.data.segmentation import IGNORED, Scene
from switchnorm.errors import InputError
from switchnorm.tasks.segmentation.inference import Inference, starts
from switchnorm.tasks.segmentation.prediction import predict, probabilities, view_logits
from tests.golden import images, state_dict

RECORDS = Path(__file__).parents[2] / "golden"


def plain(logits, size):
    """The definition: every set resized as a whole, softmax, mean."""
    resized = [F.interpolate(each[None], size, mode="bilinear", align_corners=False)[0] for each in logits]
    return torch.stack([each.softmax(0) for each in resized]).mean(0)


def whole(logits, size):
    return torch.cat([part for _, part in probabilities(logits, size)], 1)


class Largest(TorchDispatchMode):
    """Notes the most elements of any tensor that an operation gave."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        answer = function(*arguments, **(options or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(answer) if isinstance(leaf, torch.Tensor)]
        self.elements = max(self.elements, *sizes, 0)
        return answer


sides = st.integers(1, 40)


@given(st.lists(st.tuples(sides, sides), min_size=1, max_size=3), st.tuples(sides, sides), st.integers(1, 300))
def test_bands_are_the_whole_at_any_size(shapes, size, elements):
    logits = [5 * torch.randn(3, *shape) for shape in shapes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction, "_ELEMENTS_ON_CPU", elements)
        with Largest() as watch:
            bands = list(probabilities(logits, size))
    assert watch.elements <= max(elements, 3 * 3 * max(size[1], *(width for _, width in shapes)), size[0])
    assert [row for rows, _ in bands for row in range(rows.start, rows.stop)] == list(range(size[0]))
    found = torch.cat([part for _, part in bands], 1)
    exact = plain([each.double() for each in logits], size)
    own = (plain(logits, size) - exact).abs().max()  # how far torch's own rounding is off
    assert (found - exact).abs().max() <= 2 * own + 1e-6


@pytest.fixture
def threads():
    """A function that sets the number of threads, which is 1 again at the end."""
    yield torch.set_num_threads
    torch.set_num_threads(1)


@pytest.mark.parametrize("classes", [2, 11, 150])
def test_neither_the_band_nor_the_number_of_threads_changes_a_probability(monkeypatch, threads, classes):
    logits, size = [4 * torch.randn(classes, 13, 17), 4 * torch.randn(classes, 5, 23)], (31, 801)
    truth = torch.randint(classes, size, dtype=torch.uint8)
    expected = whole(logits, size)
    losses = prediction._loss(expected, truth)
    for count in (1, 2, 3):
        threads(count)
        for elements in (2**25, 10 * classes * 801, 1):
            monkeypatch.setattr(prediction, "_ELEMENTS_ON_CPU", elements)
            bands = list(probabilities(logits, size))
            assert torch.equal(torch.cat([shares for _, shares in bands], 1), expected)
            assert torch.equal(torch.cat([prediction._loss(shares, truth[rows]) for rows, shares in bands]), losses)


def test_the_company_of_a_scene_changes_nothing_of_it(monkeypatch, threads):
    def network(pictures):  # picture by picture, as networks are not
        return {"out": torch.cat([pictures, -pictures, pictures.roll(1, 1)], 1)[:, :, ::4, ::4]}

    sizes = [(301, 203), (301, 203), (150, 190), (301, 203), (90, 401)]
    scenes = [scene(place, size, [(32, 48), (64, 96)]) for place, size in enumerate(sizes)]
    alone = {each.index: found for one in scenes for each, found in predict(network, [one], Inference(flip=True))}
    for count in (1, 2, 3):
        threads(count)
        for pixels in (2**20, 3 * 64 * 96):
            monkeypatch.setattr(prediction, "_PIXELS", pixels)
            for each, found in predict(network, reversed(scenes), Inference(flip=True)):
                assert torch.equal(found.labels, alone[each.index].labels)
                assert found.loss == alone[each.index].loss


def test_double_precision_is_kept_and_halves_are_not_added_up():
    exact = torch.randn(4, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(whole([exact], (21, 30)), plain([exact], (21, 30)), rtol=0, atol=1e-12)
    half = exact.bfloat16()
    torch.testing.assert_close(whole([half, half], (21, 30)), plain([half.float()], (21, 30)), rtol=0, atol=1e-5)


def test_a_large_picture_takes_little_memory():
    logits = [torch.randn(150, 25, 38), torch.randn(150, 63, 94)]
    rows = 0
    with Largest() as watch:
        for band, shares in probabilities(logits, (2000, 3000)):
            rows += shares.shape[1]
            if band.start > 200:  # every band is as large as the first
                break
    assert rows > 200
    assert watch.elements <= 3 * 150 * 3000
    assert sum(1 for _ in probabilities(logits[:1], (512, 683))) < 60  # nor is time lost in many small calls


def test_shrinking_takes_little_memory_too():
    logits = [torch.randn(150, 300, 400)]
    with Largest() as watch:
        found = whole(logits, (31, 47))
    torch.testing.assert_close(found, plain(logits, (31, 47)), rtol=0, atol=1e-5)
    assert watch.elements <= 2**20


class Pooled(torch.nn.Module):
    """Each logit is a sum over the picture's own pixels below it: what windows have to reproduce exactly."""

    def __init__(self, ratio, classes=4):
        super().__init__()
        self.ratio, self.weight = ratio, torch.randn(classes, 3)
        self.shapes = []

    def forward(self, x):
        self.shapes.append(tuple(x.shape))
        pooled = F.avg_pool2d(x, self.ratio, ceil_mode=True)
        return {"out": torch.einsum("kc,nchw->nkhw", self.weight, pooled), "aux": None}


def scene(index, size, sides, truth=True, classes=4):
    pictures = tuple(torch.randn(3, *side) for side in sides)
    labels = torch.randint(classes, size, dtype=torch.uint8)
    labels[torch.rand(size) < 0.2] = IGNORED
    return Scene(index, pictures, size, labels if truth else None)


def test_the_mirror_image_is_mirrored_back():
    network, x = Pooled(8), torch.randn(2, 3, 32, 48)
    plainly, mirrored = view_logits(network, x, Inference(flip=True))
    torch.testing.assert_close(plainly, mirrored)
    assert not torch.equal(network(x)["out"], network(x.flip(3))["out"])


@given(
    st.sampled_from([1, 2, 4, 8, 16, 32]), st.integers(1, 40), st.integers(1, 40),
    st.integers(1, 4), st.floats(0, 0.99), st.booleans(),
)  # fmt: skip
def test_windows_meet_on_the_pictures_grid(ratio, height, width, window, overlap, flip):
    network, x = Pooled(ratio), torch.randn(1, 3, 8 * height, 8 * width)
    expected = view_logits(network, x, Inference(flip=flip))
    network.shapes.clear()
    found = view_logits(network, x, Inference(flip=flip, window=32 * window, overlap=overlap))
    assert all(max(shape[2:]) <= 32 * window for shape in network.shapes)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_overlapping_answers_are_averaged():
    calls = iter([1.0, 3.0])
    logits = view_logits(lambda x: {"out": x[:, :, ::32, ::32].new_full((1, 1, 1, 2), next(calls))},
                         torch.randn(1, 3, 32, 96), Inference(window=64, overlap=0.5))  # fmt: skip
    assert logits[0].flatten().tolist() == [1, 2, 3]


def test_a_window_covers_the_share_that_was_asked_for():
    assert starts(512, 256, 0) == [0, 256]
    assert starts(512, 256, 0.5) == [0, 128, 256]
    assert starts(360, 256, 1 / 3) == [0, 128]  # 32-pixel grid: the last window ends with the picture
    assert starts(1000, 320, 0.9) == [32 * place for place in range(23)]


def test_a_picture_within_the_window_goes_through_whole():
    network = Pooled(8)
    view_logits(network, torch.randn(2, 3, 64, 40), Inference(window=64))
    assert network.shapes == [(2, 3, 64, 40)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 100}, "window 100 is no multiple of 32 pixels; the nearest is 96"),
        ({"window": 0}, "the nearest is 32"),
        ({"overlap": 1.0}, r"overlap 1.0 is not in \[0, 1\)"),
    ],
)
def test_impossible_views_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Inference(**options)


@pytest.mark.parametrize("side", [24, 1])
def test_a_network_off_the_grid_cannot_slide(side):
    with pytest.raises(InputError, match=f"a window of 64 pixels with {side} logits cannot slide"):
        view_logits(lambda x: {"out": x.new_zeros(1, 2, side, side)}, torch.randn(1, 3, 96, 96), Inference(window=64))


def test_scenes_are_predicted_as_their_mean_probability_says():
    network = Pooled(8)
    sizes, grown = [(37, 51), (30, 30)], [(32, 48), (64, 96)]
    scenes = [scene(place, sizes[place % 2], grown if place != 2 else grown[:1]) for place in range(5)]
    found = {each.index: (each, answer) for each, answer in predict(network, scenes, Inference(flip=True))}
    assert sorted(found) == list(range(5))
    for given_scene in scenes:
        same, answer = found[given_scene.index]
        assert same is given_scene
        logits = [network(x[None])["out"][0] for x in given_scene.pictures]  # its own mirror image
        shares = plain(logits, given_scene.size)
        loss = F.nll_loss(shares.log()[None], given_scene.target[None].long(), ignore_index=IGNORED, reduction="sum")
        assert answer.labels.dtype == torch.uint8
        assert torch.equal(answer.labels.long(), shares.argmax(0))
        assert answer.loss == pytest.approx(loss.item(), rel=1e-5)


def test_pictures_of_one_shape_share_calls_within_limits(monkeypatch):
    monkeypatch.setattr(prediction, "_PIXELS", 3 * 32 * 48)
    network = Pooled(8)
    scenes = [scene(place, (30, 45), [(32, 48)], truth=False) for place in range(4)]
    scenes[1:1] = [scene(place, (30, 45), [(320, 480)], truth=False) for place in (8, 9)]  # beyond the limit: alone
    answers = {each.index: answer for each, answer in predict(network, scenes)}
    assert sorted(shape[0] for shape in network.shapes) == [1, 1, 1, 3]
    assert all(answer.loss == 0.0 for answer in answers.values())
    alone = dict(enumerate(answer for _, answer in predict(network, scenes[-1:])))[0]
    assert torch.equal(answers[3].labels, alone.labels)


def test_a_certain_mistake_is_a_finite_loss():
    logits = torch.zeros(1, 2, 1, 1)
    logits[0, 0] = 1e4
    truth = torch.ones(4, 4, dtype=torch.uint8)
    ((_, found),) = predict(lambda x: {"out": logits}, [Scene(0, (torch.zeros(3, 8, 8),), (4, 4), truth)])
    assert math.isfinite(found.loss)
    assert found.loss > 16 * 80


def test_no_gradients_are_kept():
    network = torch.nn.Conv2d(3, 2, 1)
    (logits,) = view_logits(lambda x: {"out": network(x)}, torch.randn(1, 3, 8, 8), Inference())
    assert not logits.requires_grad


def test_the_published_network_gives_the_published_probabilities(golden):
    record = golden("ade_resnet50_dilated8_c1_bilinear_deepsup_probabilities")
    keys = json.loads((RECORDS / "ade_resnet50_dilated8_c1_bilinear_deepsup.keys.json").read_text())
    model = switchnorm.create_model("resnet50_dilated8+c1_bilinear_deepsup", norm="sn", num_classes=150)
    model.load_state_dict(state_dict(keys))
    (logits,) = view_logits(model.eval(), images(int(record["batch"]), int(record["size"])), Inference())
    found = whole([logits[0]], (90, 110))[None, :, ::2, ::2]
    torch.testing.assert_close(found.half(), record["probabilities_90x110_half"], rtol=2e-3, atol=1e-6)

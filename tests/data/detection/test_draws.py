"""Sizes, and what is drawn for a picture."""

import dataclasses

import torch
from hypothesis import given
from hypothesis import strategies as st

from switchnorm.data.augment.sizes import fitted
from switchnorm.data.detection.augmentation import Augmentation
from switchnorm.data.detection.sizes import TrainingSizes

SIDES = st.integers(1, 2000)
EVERYTHING = Augmentation(TrainingSizes((), None, (0.1, 2.0), 64), "both", 0.4, 0.5, 0.3, seed=11)


@given(SIDES, SIDES)
def test_large_scale_jitter_is_a_factor_of_what_fits_into_the_square(height, width):
    sizes = TrainingSizes((), None, (0.1, 2.0), 640)
    found = sizes.of_batch(3, 1, 9, torch.arange(50), [(height, width)] * 50)
    longest = [max(size) / 640 for size in found]
    assert 0.1 - 1e-3 <= min(longest) < 0.4
    assert 1.6 < max(longest) <= 2.0
    for size in found:
        factor = max(size) / max(height, width)
        assert all(
            abs(new - max(old * factor, 1)) <= 1 + factor for new, old in zip(size, (height, width), strict=True)
        )
    assert found == sizes.of_batch(3, 1, 2, torch.arange(50), [(height, width)] * 50)  # in any batch
    assert sizes.canvas(found) == sizes.largest([(height, width)]) == (640, 640)


@given(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=5))
def test_a_batch_has_one_short_side_and_holds_all_its_pictures(originals):
    sizes = TrainingSizes((30, 50, 90), 120)
    possible = [[fitted(size, side, 120) for size in originals] for side in sizes.sides]
    largest, seen = sizes.largest(originals), []
    for place in range(30):
        found = sizes.of_batch(3, 1, place, torch.arange(len(originals)), originals)
        seen.append(found)
        canvas = sizes.canvas(found)
        assert all(side % 32 == 0 for side in canvas)
        assert all(old <= new for size in found for old, new in zip(size, canvas, strict=True))
        assert all(old <= new for old, new in zip(canvas, largest, strict=True))
    assert all(each in possible for each in seen)
    assert all(each in seen for each in possible)
    assert TrainingSizes((), None).of_batch(3, 1, 0, torch.arange(len(originals)), originals) == originals


def test_what_is_drawn_depends_on_seed_pass_and_sample_alone():
    samples = [5, 0, 99, 12, 7, 3]
    together = EVERYTHING.draw(2, samples, 100)
    for place, sample in enumerate(samples):
        assert EVERYTHING.draw(2, [sample], 100) == [together[place]]
        assert together[place].parts[0].sample == sample
    assert EVERYTHING.draw(2, [], 100) == []
    for other in (EVERYTHING.draw(3, samples, 100), dataclasses.replace(EVERYTHING, seed=12).draw(2, samples, 100)):
        assert not {draw.key for draw in together} & {draw.key for draw in other}


def test_mirrors_do_not_depend_on_what_else_is_asked_for():
    plain = dataclasses.replace(EVERYTHING, mosaic=0.0, copy_paste=0.0).draw(2, list(range(40)), 100)
    for one, other in zip(plain, EVERYTHING.draw(2, list(range(40)), 100), strict=True):
        assert (one.parts[0], one.key) == (other.parts[0], other.key)
        assert len(one.parts) == 1
        assert one.mosaic is None
        assert not one.pastes


def test_shares_and_places_are_as_asked_for():
    draws = EVERYTHING.draw(0, list(range(4000)), 4000)
    assert abs(sum(draw.mosaic is not None for draw in draws) / 4000 - 0.5) < 0.03
    assert abs(sum(draw.pastes for draw in draws) / 4000 - 0.3) < 0.03
    assert all(0.25 <= share <= 0.75 for draw in draws for share in draw.mosaic or ())
    parts = [part for draw in draws for part in draw.parts]
    assert abs(sum(part.mirrored for part in parts) / len(parts) - 0.5) < 0.02
    assert abs(sum(part.inverted for part in parts) / len(parts) - 0.5) < 0.02
    assert abs(sum(part.mirrored == part.inverted for part in parts) / len(parts) - 0.5) < 0.02
    partners = torch.tensor([part.sample for part in parts if part.number])
    assert len(partners.unique()) > 3900
    assert abs(float(partners.float().mean()) / 3999.5 - 0.5) < 0.02
    assert len({part.color for part in parts}) == len(parts)
    none = dataclasses.replace(EVERYTHING, flip="none").draw(0, list(range(99)), 99)
    assert not any(part.mirrored or part.inverted for draw in none for part in draw.parts)
    chosen = [taken for part in parts[:2000] for taken in EVERYTHING.chosen(0, part, 5)]
    assert abs(sum(chosen) / len(chosen) - 0.5) < 0.02

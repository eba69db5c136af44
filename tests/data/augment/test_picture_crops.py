import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from switchnorm.data import resizing
from switchnorm.data.augment.picture_crops import EvaluationCrops, TrainingCrops
from switchnorm.data.counter import Stream, seeds
from switchnorm.data.files.picture_file import DamagedError, read_picture
from switchnorm.data.interpolation import INTERPOLATIONS
from tests.data.photos import imagenet_sample, jpeg_bytes, photo, truncate

INDEX = torch.arange(40)


def training(**options):
    defaults = {"min_area": 0.08, "color_jitter": 0.0, "rand_augment": 0, "magnitude": 9, "plain_from": None}
    return TrainingCrops(**{"size": 16, "resize": 20, **defaults, **options})


def coordinates(width=200, height=160):
    """A picture whose red is the column and whose green is the row."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width), np.arange(height)[:, None]
    return Image.fromarray(pixels)


def tensor(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


@pytest.mark.parametrize(
    ("mode", "name"),
    [("RGB", "a.jpg"), ("L", "a.jpg"), ("CMYK", "a.jpg"), ("P", "a.png"), ("RGBA", "a.png"), ("1", "a.png")],
)
def test_every_kind_of_picture_is_read_as_its_colours(tmp_path, mode, name):
    photo(0).convert(mode).save(tmp_path / name)
    picture = read_picture(str(tmp_path / name))
    assert picture.mode == "RGB"
    expected = Image.open(tmp_path / name).convert("RGB")
    assert np.array_equal(np.array(picture), np.array(expected))
    if mode != "1":  # nothing but black and white is left
        original = np.array(photo(0).convert("L").convert("RGB") if mode == "L" else photo(0)).astype(float)
        assert abs(np.array(picture) - original).mean() < 20


def test_a_png_that_is_called_jpg_is_read(tmp_path):
    photo(0).save(tmp_path / "a.jpg", format="png")
    assert np.array_equal(np.array(read_picture(str(tmp_path / "a.jpg"))), np.array(photo(0)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "it is missing"),
        (b"", "cannot identify image file"),
        (b"not a picture at all", "cannot identify image file"),
        (jpeg_bytes()[:400], "(?i)truncated"),
        (jpeg_bytes()[:-40], "(?i)truncated"),
    ],
)
def test_a_damaged_picture_is_named_with_the_reason(tmp_path, content, reason):
    if content is not None:
        (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DamagedError, match=reason) as caught:
        read_picture(str(tmp_path / "a.jpg"))
    assert str(caught.value).startswith(f"{tmp_path}/a.jpg (")
    assert "\n" not in str(caught.value)


def test_a_truncated_png_is_damaged_and_so_is_a_folder(tmp_path):
    photo(0).save(tmp_path / "a.png")
    truncate(tmp_path / "a.png")
    for path in (tmp_path / "a.png", tmp_path):
        with pytest.raises(DamagedError):
            read_picture(str(path))


@pytest.mark.parametrize("shape", [(30, 24), (24, 30), (20, 20), (16, 90), (500, 375)])
def test_evaluation_shows_what_torchvision_shows(shape):
    picture = photo(1, *shape)
    expected = v2.Compose([v2.Resize(20), v2.CenterCrop(16)])(picture)
    assert torch.equal(EvaluationCrops(16, 20)(picture), tensor(expected)[None])


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (3, 2000)])
def test_the_middle_of_a_thin_picture_is_shown_without_resizing_the_rest(shape, monkeypatch):
    picture, resize = photo(1, *shape), resizing.resize
    whole = v2.Compose([v2.Resize(20), v2.CenterCrop(16)])(picture)
    monkeypatch.setattr(resizing, "LONGEST", 400)
    resized = []
    monkeypatch.setattr(resizing, "resize", lambda *asked: resized.append(resize(*asked)) or resized[-1])
    shown = EvaluationCrops(16, 20)(picture)
    assert max(resized[0].size) <= 400
    assert (shown[0].int() - tensor(whole).int()).abs().max() <= 2


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("shape", [(30, 24), (13, 17), (20, 20)])
def test_pictures_are_resized_as_pillow_resizes(shape, interpolation):
    picture = photo(1, *shape)
    short = min(shape)
    resized = picture.resize([20 * side // short for side in shape], getattr(Image.Resampling, interpolation.upper()))
    expected = v2.CenterCrop(16)(resized)
    assert torch.equal(EvaluationCrops(16, 20, "centre", interpolation)(picture), tensor(expected)[None])


@pytest.mark.parametrize("shape", [(30, 24), (24, 30), (20, 20)])
def test_five_of_the_ten_views_are_torchvisions(shape):
    picture = photo(1, *shape)
    crops = EvaluationCrops(16, 20, "ten")(picture)
    expected = v2.Compose([v2.Resize(20), v2.FiveCrop(16)])(picture)
    assert torch.equal(crops, torch.stack([tensor(crop) for crop in expected]))
    assert torch.equal(crops[4], EvaluationCrops(16, 20)(picture)[0])


def test_real_pictures_are_evaluated_as_torchvision_does():
    paths = sorted((imagenet_sample() / "val").rglob("*.JPEG"))[::250]
    for path in paths:
        expected = v2.Compose([v2.Resize(256), v2.CenterCrop(224)])(Image.open(path).convert("RGB"))
        assert torch.equal(EvaluationCrops(224, 256)(read_picture(str(path)))[0], tensor(expected))


@pytest.mark.parametrize("epoch", [0, 3])
@pytest.mark.parametrize("jitter", [0.0, 0.4])
@pytest.mark.parametrize("operations", [0, 2])
def test_training_is_torchvisions_transforms_under_the_counters_seeds(epoch, jitter, operations):
    index = torch.tensor([5, 900, 17, 3])
    pictures = [photo(place) for place in range(4)]
    crops = training(color_jitter=jitter, rand_augment=operations, plain_from=3)
    plain = v2.Compose([v2.Resize(20), v2.RandomCrop(16)])
    steps = [(Stream.WINDOW, plain if epoch == 3 else v2.RandomResizedCrop(16, (0.08, 1)))]
    if jitter:
        steps.append((Stream.COLOR, v2.ColorJitter(0.4, 0.4, 0.4)))
    if operations:
        steps.append((Stream.POLICY, v2.RandAugment(2, 9, interpolation=v2.InterpolationMode.BILINEAR)))
    expected = []
    mirrored = [bool(flip) for flip in crops_mirrored(7, epoch, index)]
    for place, picture in enumerate(pictures):
        for stream, step in steps:
            torch.manual_seed(seeds(7, epoch, index, stream)[place])
            picture = step(picture)
            if stream == Stream.WINDOW and mirrored[place]:
                picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        expected.append(tensor(picture))
    assert torch.equal(crops(pictures, 7, epoch, index), torch.stack(expected))


def crops_mirrored(seed, epoch, index):
    """Read off pictures of coordinates: mirrored where red falls from left to right."""
    images = training(plain_from=0)([coordinates()] * len(index), seed, epoch, index).int()
    return images[:, 0, 8, 0] > images[:, 0, 8, -1]


def test_half_of_the_pictures_are_mirrored():
    assert 0.4 < crops_mirrored(0, 0, torch.arange(300)).float().mean() < 0.6


def windows(min_area):
    """Width and height in pixels of what the crops of a 200 x 160 picture show."""
    images = training(min_area=min_area)([coordinates()] * 40, 0, 0, INDEX).int()
    columns, rows = images[:, 0].amax((1, 2)) - images[:, 0].amin((1, 2)), images[:, 1].amax((1, 2))
    rows = rows - images[:, 1].amin((1, 2))
    return columns * 16 / 15, rows * 16 / 15  # the outermost pixels are averages, whose centres span 15 of 16


def test_random_crops_show_the_area_and_proportions_that_are_asked_for():
    for min_area in (0.08, 0.5):
        width, height = windows(min_area)
        area, ratio = width * height / (200 * 160), width / height
        assert min_area * 0.85 < area.min() < min_area * 1.6
        assert 0.8 < area.max() < 1.05
        assert ratio.min() > 0.75 * 0.9
        assert ratio.max() < 4 / 3 * 1.1


def test_plain_crops_are_windows_of_the_resized_picture():
    picture = photo(3, 36, 24)  # 30 x 20 when resized
    resized = tensor(v2.Resize(20)(picture))
    every = {
        tuple(view.flatten().tolist())
        for window in resized.unfold(1, 16, 1).unfold(2, 16, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
        for view in (window, window.flip(-1))
    }
    for epoch, plain in ((4, False), (5, True), (6, True)):
        images = training(plain_from=5)([picture] * 40, 0, epoch, INDEX)
        found = [tuple(image.flatten().tolist()) in every for image in images]
        assert all(found) if plain else not any(found)
        if plain:
            assert len({tuple(image.flatten().tolist()) for image in images}) > 25


def test_color_jitter_stays_within_its_range():
    gray = Image.new("RGB", (20, 20), (100, 100, 100))  # contrast and saturation leave it alone
    values = training(color_jitter=0.4)([gray] * 200, 0, 0, torch.arange(200)).float()
    assert values.amin() == values[values.argmin() // values[0].numel()].amax()
    assert 59 <= values.amin() < 70
    assert 130 < values.amax() <= 141


def test_a_sample_is_augmented_alike_in_any_company_and_anew_in_every_epoch():
    pictures = [photo(place) for place in range(40)]
    crops = training(color_jitter=0.4, rand_augment=2)
    together = crops(pictures, 0, 0, INDEX)
    some = torch.tensor([31, 4])
    assert torch.equal(crops([pictures[31], pictures[4]], 0, 0, some), together[some])
    assert not torch.equal(crops(pictures, 0, 1, INDEX), together)
    assert not torch.equal(crops(pictures, 1, 0, INDEX), together)


def test_an_option_changes_nothing_of_the_others():
    """The same window and mirror with and without colours, which each have a stream of their own."""
    gray = training(color_jitter=0.0)([coordinates()] * 40, 0, 0, INDEX)
    assert torch.equal(training(color_jitter=1e-9)([coordinates()] * 40, 0, 0, INDEX), gray)


def test_the_global_generator_is_left_as_it_was():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    training(color_jitter=0.4, rand_augment=1)([photo(0)], 0, 0, INDEX[:1])
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(TypeError, match="No image"):
        training()([None], 0, 0, INDEX[:1])
    assert torch.equal(torch.get_rng_state(), before)

"""The projections: what they promise for any input, against searches that share no idea with them, and the record."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from switchnorm.errors import InputError
from switchnorm.ops import sparsemax, sparsestmax

pytestmark = pytest.mark.usefixtures("poisoned")

CENTRES = ("simplex", "support")


@st.composite
def logits(draw: st.DrawFn) -> Tensor:
    """Inputs of 1 to 8 entries: ordinary, tied, tiny, huge, and all of these together."""
    dtype = draw(st.sampled_from((torch.float32, torch.float64)))
    width = 32 if dtype == torch.float32 else 64
    largest = torch.finfo(dtype).max
    kinds = [
        st.floats(-2, 2, width=width),
        st.sampled_from((-1.0, 0.0, 0.5, 1.0)),
        st.floats(-(2.0**-100), 2.0**-100, width=width),
        st.sampled_from((0.0, -0.0, 1e-45, 1e-22, -1e-22, 1.0)),
        st.sampled_from((1e30, -1e30, largest, -largest, 1.0)),
        st.floats(allow_nan=False, allow_infinity=False, width=width),
    ]
    return torch.tensor(draw(st.lists(draw(st.sampled_from(kinds)), min_size=1, max_size=8)), dtype=dtype)


RADII = st.one_of(st.floats(0, 1), st.sampled_from((0.0, 1e-4, 0.5**0.5, (2 / 3) ** 0.5, 1.0)))


def tied(z: Tensor) -> bool:
    """Whether the largest entry occurs twice, as far as halves can tell: half of the smallest number is 0."""
    half = z / 2
    return int((half - half.max() == 0).sum()) > 1


@given(logits(), RADII, st.sampled_from(CENTRES))
def test_the_result_lies_on_the_simplex_and_outside_the_ball(z: Tensor, radius: float, centre: Any) -> None:
    p = sparsestmax(z, radius, centre)
    k, eps = len(z), torch.finfo(z.dtype).eps
    assert p.dtype == z.dtype
    assert (p >= 0).all()
    assert abs(p.double().sum() - 1) <= 2 * k * eps
    if not tied(z):
        middle = (torch.ones(k) if centre == "simplex" else (sparsemax(z) > 0)).double()
        middle = middle / middle.sum()
        corner = (1 - float(middle.max())) ** 0.5
        assert (p.double() - middle).norm() >= min(radius, corner) - 4 * k * eps


@given(logits(), RADII, st.sampled_from(CENTRES), st.randoms(use_true_random=False))
def test_order_does_not_matter(z: Tensor, radius: float, centre: Any, random: Any) -> None:
    order = list(range(len(z)))
    random.shuffle(order)
    eps = torch.finfo(z.dtype).eps
    permuted = sparsestmax(z[order], radius, centre)
    torch.testing.assert_close(permuted, sparsestmax(z, radius, centre)[order], rtol=0, atol=8 * eps)


@given(logits(), st.sampled_from(CENTRES))
def test_radius_0_is_sparsemax(z: Tensor, centre: Any) -> None:
    a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
    cotangent = torch.linspace(-1, 2, len(z), dtype=z.dtype)
    ours, theirs = sparsestmax(a, 0.0, centre), sparsemax(b)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    ours.backward(cotangent)
    theirs.backward(cotangent)
    torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=0)


@given(logits(), st.floats(0, 1))
def test_a_radius_that_reaches_the_corners_is_one_hot(z: Tensor, beyond: float) -> None:
    k = len(z)
    corner = (1 - 1 / k) ** 0.5
    p = sparsestmax(z, min(1.0, corner + 1e-6 + beyond * (1 - corner)))
    if not tied(z):
        assert torch.equal(p, torch.nn.functional.one_hot(z.argmax(), k).to(z.dtype))
    else:
        assert torch.equal(p > 0, z / 2 == z.max() / 2)


@given(logits())
def test_sparsemax_is_the_nearest_point(z: Tensor) -> None:
    """The conditions of optimality: one threshold, below which entries are 0."""
    p, eps = sparsemax(z), torch.finfo(z.dtype).eps
    assert (p >= 0).all()
    assert abs(p.double().sum() - 1) <= 2 * len(z) * eps
    thresholds = z.double() - z.double().max() - p.double()
    assert thresholds[p > 0].max() - thresholds[p > 0].min() <= 4 * len(z) * eps
    assert (thresholds[p == 0] <= thresholds[p > 0].min() + 4 * len(z) * eps).all()


def stationary_points(z: Tensor, radius: float) -> Tensor:
    """Every point of the simplex on the sphere where p·z is stationary on some face, by going through all faces.

    Which is where the nearest point of the sphere must be: on the smallest face that holds it, p·z is stationary.
    """
    k = len(z)
    found = []
    for size in range(1, k + 1):
        for members in combinations(range(k), size):
            inside = torch.zeros(k, dtype=torch.bool)
            inside[list(members)] = True
            middle = inside.double() / size
            square = radius**2 + 1 / k - 1 / size
            direction = torch.where(inside, z - z[inside].mean(), 0)
            if size == 1 or square < 0:
                found.append(middle)
            elif direction.norm() > 0:
                along = direction / direction.norm() * square**0.5
                found += [middle + along, middle - along]
    points = torch.stack(found)
    distance = (points - 1 / k).norm(dim=1)
    return points[(points >= -1e-12).all(1) & (distance >= radius - 1e-12)]


@pytest.mark.parametrize("k", range(1, 9))
def test_the_default_is_the_projection(k: int) -> None:
    corner = (1 - 1 / k) ** 0.5
    for scale in (0.05, 0.3, 2.0):
        for radius in torch.rand(6).tolist():
            radius *= corner
            z = scale * torch.randn(k, dtype=torch.float64)
            p = sparsestmax(z, radius)
            distance = (p - z).norm()
            nearest = sparsemax(z)
            if (nearest - 1 / k).norm() >= radius:
                assert torch.equal(p, nearest)
            else:
                candidates = stationary_points(z, radius)
                best = candidates[(candidates - z).norm(dim=1).argmin()]
                torch.testing.assert_close(p, best, rtol=0, atol=1e-9)
            # Points drawn at random, pushed out of the ball, are never nearer.
            drawn = torch.distributions.Dirichlet(torch.full((k,), 0.5).double()).sample((2000,))
            away = drawn - 1 / k
            away = away * (radius / away.norm(dim=1, keepdim=True).clamp(min=1e-9)).clamp(min=1)
            drawn = (away + 1 / k)[(away + 1 / k >= 0).all(1)]
            assert ((drawn - z).norm(dim=1) >= distance - 1e-9).all()


def test_the_default_is_the_projection_by_dense_search() -> None:
    """K = 3: the circle around the centre, 100 000 angles."""
    angle = torch.linspace(0, 2 * torch.pi, 100_001, dtype=torch.float64)
    across = torch.tensor([[1.0, -1, 0], [1, 1, -2]], dtype=torch.float64)
    across = across / across.norm(dim=1, keepdim=True)
    circle = torch.stack((angle.cos(), angle.sin()), 1) @ across
    for radius in (0.1, 0.3, 0.45, 0.6, 0.75):
        points = circle * radius + 1 / 3
        points = points[(points >= 0).all(1)]
        for _ in range(20):
            z = 0.2 * torch.randn(3, dtype=torch.float64)
            if (sparsemax(z) - 1 / 3).norm() < radius:
                nearest = points[(points - z).norm(dim=1).argmin()]
                torch.testing.assert_close(sparsestmax(z, radius), nearest, rtol=0, atol=radius * 1e-4)


@given(logits(), RADII)
def test_around_the_support_is_the_projection_within_it(z: Tensor, radius: float) -> None:
    inside = sparsemax(z) > 0
    expected = torch.zeros_like(z)
    expected[inside] = sparsestmax(z[inside], radius)
    torch.testing.assert_close(sparsestmax(z, radius, "support"), expected, rtol=0, atol=8 * torch.finfo(z.dtype).eps)


@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("k", [1, 2, 3, 5, 8])
def test_gradients_of_first_and_second_order(k: int, centre: Any) -> None:
    """At random inputs, which lie away from the kinks."""
    z = (0.5 * torch.randn(6, k, dtype=torch.float64)).requires_grad_()
    radius = torch.rand(6, dtype=torch.float64)

    def project(z: Tensor) -> Tensor:
        return sparsestmax(z, radius, centre)

    assert torch.autograd.gradcheck(project, z)
    assert torch.autograd.gradgradcheck(project, z)
    assert torch.autograd.gradcheck(sparsemax, z)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("k", range(2, 9))
def test_a_tie_stays_in_the_middle_until_broken(k: int, centre: Any, dtype: torch.dtype, value: float) -> None:
    cotangent = torch.randn(k, dtype=dtype)
    for radius in (0.0, 1e-3, 0.3, 1.0):
        z = torch.full((k,), value, dtype=dtype, requires_grad=True)
        p = sparsestmax(z, radius, centre)
        torch.testing.assert_close(p, torch.full_like(p, 1 / k), rtol=0, atol=torch.finfo(dtype).eps)
        (gradient,) = torch.autograd.grad(p, z, cotangent)
        torch.testing.assert_close(gradient, cotangent - cotangent.mean())
        if radius == 1 and abs(value) < 10:
            assert (sparsestmax((z - 0.1 * gradient).detach(), radius, centre) == 1).sum() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("centre", CENTRES)
def test_a_near_tie_still_learns(centre: Any, dtype: torch.dtype) -> None:
    """Where training begins: logits that differ by less than the root of the rounding, and a small radius."""
    for step in (1e-4, 1e-6):
        for radius in (0.0, 1e-5, 1e-4):
            z = (1 + step * torch.randn(200, 3, dtype=dtype)).requires_grad_()
            p = sparsestmax(z, radius, centre)
            (gradient,) = torch.autograd.grad(p, z, torch.randn_like(p))
            assert (gradient != 0).any(1)[z.detach().sort().values.diff().amin(1) > 0].all()
            distance = (p - 1 / 3).norm(dim=1)[(z[:, 1:] != z[:, :1]).any(1)]
            assert (distance >= radius - 2 * torch.finfo(dtype).eps).all()


def test_a_batch_is_its_rows() -> None:
    z, radius = torch.randn(4, 5, 3), torch.rand(4, 5)
    rows = torch.stack([sparsestmax(z[i, j], float(radius[i, j])) for i in range(4) for j in range(5)]).view(4, 5, 3)
    torch.testing.assert_close(sparsestmax(z, radius), rows)
    torch.testing.assert_close(sparsestmax(z, radius[0]), torch.stack([sparsestmax(row, radius[0]) for row in z]))
    vmapped = torch.vmap(torch.vmap(sparsestmax))(z, radius)
    torch.testing.assert_close(vmapped, rows)
    assert sparsestmax(torch.empty(0, 3), 0.5).shape == (0, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.5,), "radius 1.5 is outside [0, 1]; the nearest valid radius is 1.0"),
        ((-0.1,), "radius -0.1 is outside [0, 1]; the nearest valid radius is 0.0"),
        ((float("nan"),), "radius nan is outside [0, 1]"),
        ((0.5, "suport"), "centre 'suport' is unknown; did you mean 'support'?"),
        ((0.5, "x"), "centre 'x' is unknown; choose from simplex, support"),
    ],
)
def test_errors(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError) as error:
        sparsestmax(torch.zeros(3), *arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


class TestPublished:
    """The record of 199 projections by SSN's published code."""

    @pytest.fixture
    def record(self, golden: Callable[[str], dict[str, Tensor]]) -> dict[str, Tensor]:
        record = golden("sparsestmax")
        assert record["input"].shape == (199, 3)
        assert not record["input_grad"].isnan().any()
        return record

    def test_values_and_gradients(self, record: dict[str, Tensor]) -> None:
        z = record["input"].requires_grad_()
        p = sparsestmax(z, record["radius"], "support")
        (gradient,) = torch.autograd.grad(p, z, record["cotangent"])
        torch.testing.assert_close(p, record["output"], rtol=0, atol=1e-6)
        # All gradients agree to 1e-6, but those on a sphere around the centre of the whole triangle: there the
        # published centre is 1/3 rounded to float32, which the radius over the distance from the centre magnifies.
        # With that centre in its formula the values agree to 1e-14, and the gradients to 1e-12.
        rounded = torch.tensor(1 / 3, dtype=torch.float32).double()
        away = sparsemax(z) - rounded
        distance, radius = away.norm(dim=1, keepdim=True), record["radius"][:, None]
        sphere = rounded + away * radius / distance
        affected = ((sparsemax(z) > 0) & (sphere > 0) & (distance < radius)).all(1)
        assert affected.sum() == 26
        (theirs,) = torch.autograd.grad(sphere, z, record["cotangent"])
        torch.testing.assert_close(sphere[affected], record["output"][affected], rtol=0, atol=1e-14)
        torch.testing.assert_close(theirs[affected], record["input_grad"][affected], rtol=0, atol=1e-12)
        torch.testing.assert_close(gradient[~affected], record["input_grad"][~affected], rtol=0, atol=1e-6)
        # The Jacobian is radius / distance times a projection: a rounded centre is off by 1e-8 / distance of it.
        bound = 2 * (rounded - 1 / 3) * 3**0.5 * radius / distance**2 * record["cotangent"].norm(dim=1, keepdim=True)
        assert ((gradient - record["input_grad"]).abs() <= bound)[affected].all()

    def test_the_true_projection_is_nearer(self, record: dict[str, Tensor]) -> None:
        z, theirs = record["input"], record["output"]
        ours = sparsestmax(z, record["radius"])
        differ = (ours - theirs).abs().amax(1) > 1e-6
        assert differ.sum() == 29
        assert not ((sparsemax(z) > 0).all(1) & differ).any()
        gain = (theirs - z).norm(dim=1) - (ours - z).norm(dim=1)
        assert (gain[differ] > 1e-5).all()
        # Both lie outside the ball, so the nearer one is the projection.
        assert ((ours - 1 / 3).norm(dim=1) >= record["radius"].clamp(max=(2 / 3) ** 0.5) - 1e-9).all()


@given(logits(), RADII, st.sampled_from(CENTRES))
def test_reading_ahead_on_the_cpu_changes_nothing(z: Tensor, radius: float, centre: Any) -> None:
    """Inside a graph of plain operations nothing is read; elsewhere the sphere is skipped where no point needs it."""
    plain = torch.func.vmap(lambda z: sparsestmax(z, radius, centre))(z[None])[0]
    torch.testing.assert_close(sparsestmax(z, radius, centre), plain, rtol=0, atol=0)


def test_nothing_is_read_on_another_device() -> None:
    assert sparsestmax(torch.zeros(2, 3, device="meta"), 0.0).is_meta

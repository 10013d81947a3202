"""fr.augment: exact identities, uint8 and 16 bits, right distributions, and operators under every transform."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor
from torch.func import grad, jvp, vmap

import funcreg as fr
from funcreg import _jit, augment
from funcreg.augment import operators, policies

SIZE = (5, 3, 9, 14)
TARGETS = torch.eye(5)
TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])

Augmentation = Callable[..., Any]
ALL: dict[str, Augmentation] = {
    "flip": augment.flip,
    "vertical flip": partial(augment.flip, direction="vertical"),
    "crop": partial(augment.crop, padding=3),
    "crop filled": partial(augment.crop, padding=3, fill=torch.tensor([0.1, 0.2, 0.3])),
    "crop edge": partial(augment.crop, padding=3, mode="edge"),
    "crop reflect": partial(augment.crop, padding=3, mode="reflect"),
    "cutout": partial(augment.cutout, size=4),
    "erase": augment.erase,
    "rotate": partial(augment.rotate, degrees=30.0),
    "rotate nearest": partial(augment.rotate, degrees=30.0, interpolation="nearest", fill=0.5),
    "affine": partial(augment.affine, degrees=20.0, translate=0.2, scale=(0.7, 1.3), shear=10.0, fill=0.5),
    "resized_crop": augment.resized_crop,
    "resized_crop plain": partial(augment.resized_crop, antialias=False, size=(4, 20)),
    "color_jitter": partial(augment.color_jitter, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    "gaussian_blur": partial(augment.gaussian_blur, kernel_size=5),
    "shear": partial(augment.shear, amount=0.3),
    "translate": partial(augment.translate, share=0.3),
    "rand_augment": augment.rand_augment,
    "trivial_augment": augment.trivial_augment,
    "auto_augment": partial(augment.auto_augment, policy="imagenet"),
    "mixup": partial(augment.mixup, alpha=0.5),
    "cutmix": partial(augment.cutmix, alpha=1.0),
}
MIXING = ("mixup", "cutmix")


def images(dtype: torch.dtype = torch.float64, size: tuple[int, ...] = SIZE) -> Tensor:
    drawn = fr.random.uniform(fr.random.key(7), size, dtype=torch.float64)
    return (255 * drawn).round().to(dtype) if dtype == torch.uint8 else drawn.to(dtype)


def call(name: str, x: Tensor, key: Tensor) -> Tensor:
    """The images of any of them."""
    if name in MIXING:
        return ALL[name](x, TARGETS, key=key)[0]
    return ALL[name](x, key=key)


# Identities.

IDENTITIES: dict[str, Augmentation] = {
    "flip": partial(augment.flip, rate=0.0),
    "crop": partial(augment.crop, padding=0),
    "cutout": partial(augment.cutout, size=0, fill=1.0),
    "erase": partial(augment.erase, rate=0.0, fill=1.0),
    "erase what never fits": partial(augment.erase, rate=1.0, scale=(1.0, 1.0), fill=1.0),
    "rotate": partial(augment.rotate, degrees=0.0),
    "rotate filled": partial(augment.rotate, degrees=0.0, fill=1.0, interpolation="nearest"),
    "affine": augment.affine,
    "resized_crop": partial(augment.resized_crop, scale=(1.0, 1.0), ratio=(14 / 9, 14 / 9)),
    "color_jitter": augment.color_jitter,
    "mixup": lambda x, *, key: augment.mixup(x, TARGETS, 0.0, key=key)[0],
    "cutmix": lambda x, *, key: augment.cutmix(x, TARGETS, 0.0, key=key)[0],
    "apply_crop": lambda x, *, key: augment.apply_crop(x, 0, 0, size=SIZE[2:]),
    "apply_cutout": lambda x, *, key: augment.apply_cutout(x, 2, 2, 0, 5, fill=1.0),
    "apply_affine": lambda x, *, key: augment.apply_affine(x, scale=torch.ones(5)),
    "apply_resized_crop": lambda x, *, key: augment.apply_resized_crop(x, 0, 0, *SIZE[2:]),
    "apply_resized_crop plain": lambda x, *, key: augment.apply_resized_crop(x, 0, 0, *SIZE[2:], antialias=False),
    "apply_color": lambda x, *, key: augment.apply_color(x),
    "apply_color of tensors": lambda x, *, key: augment.apply_color(
        x, brightness=torch.ones(5), contrast=torch.ones(()), saturation=torch.ones(5), hue=torch.zeros(5)
    ),
}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", IDENTITIES)
def test_parameters_that_change_nothing_give_the_very_image(name: str, dtype: torch.dtype, key: Tensor) -> None:
    x = images(dtype)
    y = IDENTITIES[name](x, key=key)
    assert y.dtype == dtype
    assert torch.equal(y, x)


@pytest.mark.parametrize("mix", [augment.mixup, augment.cutmix])
def test_an_alpha_of_zero_keeps_the_targets_too(mix: Augmentation, key: Tensor) -> None:
    alphas = torch.tensor([0.0, 1.0])
    _, targets = vmap(lambda alpha: mix(images(), TARGETS, alpha, key=key))(alphas)
    assert torch.equal(targets[0], TARGETS)
    assert not torch.equal(targets[1], TARGETS)


# Dtypes.


# Those with a fill, which is in the images' unit, and with colours or levels, which tests/oracles compares.
WITH_A_UNIT = {"crop filled", "rotate nearest", "affine", "color_jitter", "rand_augment", "trivial_augment"} | {
    "auto_augment"
}


@pytest.mark.parametrize("name", sorted(ALL.keys() - WITH_A_UNIT))
def test_uint8_results_are_the_rounded_results_of_the_levels(name: str, key: Tensor) -> None:
    x = images(torch.uint8)
    y = call(name, x, key)
    assert y.dtype == torch.uint8
    assert float((y.double() - call(name, x.double(), key)).abs().max()) <= 0.5001


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_images_are_computed_in_float32(name: str, dtype: torch.dtype, key: Tensor) -> None:
    x = images(dtype)
    y = call(name, x, key)
    assert y.dtype == dtype
    # The fill, 0.1, 0.2 and 0.3, is rounded as well.
    torch.testing.assert_close(y, call(name, x.float(), key).to(dtype), rtol=0, atol=1e-3 if "filled" in name else 0)


@pytest.mark.parametrize("name", ALL)
def test_the_draws_do_not_depend_on_the_dtype(name: str, key: Tensor) -> None:
    x = images(torch.float32)
    torch.testing.assert_close(call(name, x.double(), key).float(), call(name, x, key), rtol=0, atol=1e-5)


def test_another_default_dtype_changes_nothing(key: Tensor) -> None:
    x = images(torch.float32)
    expected = {name: call(name, x, key) for name in ALL}
    torch.set_default_dtype(torch.float64)
    try:
        for name in ALL:
            assert torch.equal(call(name, x, key), expected[name]), name
    finally:
        torch.set_default_dtype(torch.float32)


# Draws.


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
@pytest.mark.parametrize("name", ALL)
def test_keys_batched_equal_a_loop(name: str, dtype: torch.dtype, key: Tensor) -> None:
    x, keys = images(dtype), fr.random.split(key, 4)
    batched = vmap(lambda key: call(name, x, key))(keys)
    looped = torch.stack([call(name, x, each) for each in keys])
    torch.testing.assert_close(batched, looped, rtol=0, atol=1e-13 if dtype == torch.float64 else 0)
    assert not torch.equal(batched[0], batched[1])


@pytest.mark.parametrize("name", [name for name in ALL if name not in MIXING])
def test_every_image_has_its_own_draw(name: str, key: Tensor) -> None:
    same = images()[:1].expand(20, *SIZE[1:])
    results = call(name, same, key).flatten(1)
    # A flip has two results, and a policy strengths of its own.
    assert len(results.unique(dim=0)) > (1 if "flip" in name else 5 if name == "auto_augment" else 10)


def test_compiled_is_eager_in_uint8(key: Tensor) -> None:
    """One program; the contract has one in float64."""
    x, names = images(torch.uint8), ("crop", "rotate", "color_jitter", "mixup")

    def program(x: Tensor, key: Tensor) -> list[Tensor]:
        with fr.random.compiled_draws_are("native"):
            return [call(name, x, key) for name in names]

    for name, ours, eager in zip(names, fr.jit(program)(x, key), program(x, key), strict=True):
        gaps = (ours.int() - eager.int()).abs()
        # A product and a sum that are rounded together may end on the other side of a level.
        assert int(gaps.max()) <= 1, name
        assert float(gaps.double().mean()) < 1e-3, name


def test_flips_are_as_frequent_as_the_rate(key: Tensor) -> None:
    x = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2).expand(20_000, 1, 1, 2)
    flipped = augment.flip(x, 0.3, key=key)[:, 0, 0, 0]
    assert scipy.stats.binomtest(int(flipped.sum()), 20_000, 0.3).pvalue > 1e-3


def test_crops_go_everywhere_equally_often(key: Tensor) -> None:
    x = torch.zeros(1, 1, 7, 8)
    x[..., 3, 4] = 1
    y = augment.crop(x.expand(20_000, 1, 7, 8), 2, key=key)
    counts = y.sum(dim=0)[0, 1:6, 2:7].flatten()
    assert int(counts.sum()) == 20_000
    assert scipy.stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_cutouts_are_centred_on_every_pixel_equally_often(key: Tensor) -> None:
    covered = augment.cutout(torch.zeros(20_000, 1, 4, 6), 1, key=key, fill=1.0)
    assert torch.equal(covered.sum(dim=(1, 2, 3)), torch.ones(20_000))
    assert scipy.stats.chisquare(covered.sum(dim=(0, 1)).flatten().numpy()).pvalue > 1e-3


def test_angles_and_moves_are_uniform(key: Tensor) -> None:
    # On a ramp along x, below the centre, the value tells the angle: sin(angle) * distance.
    ramp = (torch.arange(41.0, dtype=torch.float64) - 20).expand(2000, 1, 41, 41)
    turned = augment.rotate(ramp, 40.0, key=key)[:, 0, 30, 20]
    angles = torch.rad2deg(torch.asin(turned / 10))
    assert scipy.stats.kstest(angles.numpy(), "uniform", (-40, 80)).pvalue > 1e-3
    moved = augment.affine(ramp, key=key, translate=0.1)[:, 0, 20, 20]
    assert scipy.stats.kstest(moved.numpy(), "uniform", (-4.1, 8.2)).pvalue > 1e-3


def test_factors_are_uniform(key: Tensor) -> None:
    x = torch.full((20_000, 1, 1, 1), 0.25, dtype=torch.float64)
    for setting, low, width in ((0.4, 0.6, 0.8), (1.5, 0.0, 2.5)):
        factors = augment.color_jitter(x, key=key, brightness=setting).flatten() / 0.25
        assert scipy.stats.kstest(factors.numpy(), "uniform", (low, width)).pvalue > 1e-3


# Mixing.


@pytest.mark.parametrize("mix", [augment.mixup, augment.cutmix])
def test_every_image_meets_another_and_is_met_once(mix: Augmentation, key: Tensor) -> None:
    count, keys = 6, fr.random.split(key, 200)
    eye = torch.eye(count, dtype=torch.float64)
    targets = vmap(lambda key: mix(torch.zeros(count, 1, 8, 8), eye, 1.0, key=key)[1])(keys)
    torch.testing.assert_close(targets.sum(dim=2), torch.ones(200, count, dtype=torch.float64), rtol=0, atol=1e-15)
    met = (targets > 0) & (eye == 0)
    assert bool((met.sum(dim=1) <= 1).all())
    assert bool((met.sum(dim=2) <= 1).all())
    assert bool(met.any(dim=0)[eye == 0].all()), "every pair occurs"
    alone, target = mix(images()[:1], torch.ones(1, 1), 1.0, key=key)
    torch.testing.assert_close(alone, images()[:1], rtol=1e-15, atol=0)
    assert torch.equal(target, torch.ones(1, 1))


@pytest.mark.parametrize("mix", [augment.mixup, augment.cutmix])
@pytest.mark.parametrize("alpha", [1e-3, 0.05, 1e3])
def test_any_alpha_gives_finite_mixtures(mix: Augmentation, alpha: float, key: Tensor) -> None:
    mixed, targets = mix(images(torch.float32), TARGETS, torch.tensor(alpha), key=key)
    assert bool(torch.isfinite(mixed).all())
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(5))


def test_cutmix_copies_one_box(key: Tensor) -> None:
    origin = torch.arange(5.0).reshape(5, 1, 1, 1).expand(5, 1, 20, 30)
    mixed, _ = augment.cutmix(origin, TARGETS, 1.0, key=key)
    for image in range(5):
        rows, columns = (mixed[image, 0] != image).nonzero(as_tuple=True)
        if len(rows):
            box = (int(rows.max() - rows.min()) + 1) * (int(columns.max() - columns.min()) + 1)
            assert box == len(rows)
    assert not torch.equal(mixed, origin)


# Geometry and colour, where the answer is known.


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_quarter_turns_are_rot90(turns: int, interpolation: str) -> None:
    x = images(size=(2, 3, 8, 8))
    y = augment.apply_affine(x, angle=-90.0 * turns, interpolation=interpolation)
    torch.testing.assert_close(y, torch.rot90(x, turns, (2, 3)), rtol=0, atol=1e-13)


@pytest.mark.parametrize("fill", [0.7, torch.full((3,), 0.7, dtype=torch.float64)])
def test_what_leaves_is_replaced_by_the_fill(fill: Any) -> None:
    x = images()
    y = augment.apply_affine(x, translate=(3.0, -2.0), fill=fill)
    torch.testing.assert_close(y[:, :, :-2, 3:], x[:, :, 2:, :-3], rtol=0, atol=1e-13)
    torch.testing.assert_close(y[:, :, -2:], torch.full_like(y[:, :, -2:], 0.7), rtol=0, atol=1e-13)
    uniform = augment.apply_affine(torch.full_like(x, 0.7), angle=33.0, scale=0.8, fill=fill)
    torch.testing.assert_close(uniform, torch.full_like(x, 0.7), rtol=0, atol=1e-13)


def test_a_fill_of_each_channel(key: Tensor) -> None:
    fill = torch.tensor([1.0, 2.0, 3.0])
    covered = augment.apply_cutout(images(), 0, 0, 9, 14, fill=fill)
    assert torch.equal(covered, fill.double().reshape(1, 3, 1, 1).expand(SIZE))
    cropped = augment.crop(torch.zeros(50, 3, 4, 4), 4, key=key, fill=fill)
    assert {tuple(channel.unique().tolist()) for channel in cropped.unbind(dim=1)} == {
        (0.0, n) for n in (1.0, 2.0, 3.0)
    }


def test_places_beyond_the_border_are_moved_into_the_image() -> None:
    x, far = images(), torch.tensor([-5, 0, 3, 100, 7])
    y = augment.apply_crop(x, far, far, size=(4, 4))
    inside = augment.apply_crop(x, far.clamp(0, 5), far.clamp(0, 10), size=(4, 4))
    assert torch.equal(y, inside)
    y = augment.apply_resized_crop(x, far, far, 4, 4)
    assert torch.equal(y, augment.apply_resized_crop(x, far.clamp(0, 5), far.clamp(0, 10), 4, 4))


def test_a_resized_ramp_is_a_ramp() -> None:
    ramp = torch.arange(12.0, dtype=torch.float64).expand(1, 1, 6, 12)
    y = augment.apply_resized_crop(ramp, 1, 2, 4, 8, size=(3, 4))
    # Antialiased, each pixel is the mean of its neighbours; at the ends there are fewer on one side.
    torch.testing.assert_close(y[0, 0, :, 1:3], torch.tensor([[4.5, 6.5]] * 3, dtype=torch.float64))
    assert 2.5 < float(y[0, 0, 0, 0]) < 4.5


def test_an_image_outside_the_box_does_not_matter() -> None:
    x = images()
    hidden = x.clone()
    hidden[..., :2, :] = 9.0
    hidden[..., 7:] = -9.0
    for size in ((3, 3), (20, 20)):
        one, other = (augment.apply_resized_crop(each, 2, 1, 6, 6, size=size) for each in (x, hidden))
        assert torch.equal(one, other)


def test_colours_known_by_name() -> None:
    red, green, blue, grey = [*torch.eye(3).tolist(), [0.4, 0.4, 0.4]]

    def of(color: list[float], **factors: float) -> list[float]:
        return augment.apply_color(torch.tensor(color).reshape(1, 3, 1, 1), **factors).flatten().tolist()

    assert of(red, hue=1 / 3) == pytest.approx(green, abs=1e-6)
    assert of(red, hue=-1 / 3) == pytest.approx(blue, abs=1e-6)
    assert of(green, hue=0.5) == pytest.approx([1, 0, 1], abs=1e-6)
    assert of(grey, hue=0.2) == pytest.approx(grey, abs=1e-7)
    assert of(blue, saturation=0.0) == pytest.approx([0.114] * 3)
    assert of(grey, brightness=3.0) == [1.0, 1.0, 1.0]
    assert of(red, brightness=0.0) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_huge_move_leaves_nothing_within(dtype: torch.dtype, interpolation: str) -> None:
    x, how = images(dtype), {"interpolation": interpolation, "fill": 0.25}
    for far in (1e17, -1e20, 1e36):
        moved = [augment.apply_translate(x, far, **how), augment.apply_translate(x, 0.0, far, **how)]
        slanted = [augment.apply_shear(x, far, **how), augment.apply_shear(x, 0.0, far, **how)]
        for result in (*moved, *slanted):
            assert torch.equal(result, torch.full_like(x, 0.25))


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_a_scale_that_is_none_gives_nan_by_either_interpolation(interpolation: str) -> None:
    x, scales = images(), torch.tensor([1.0, -1.0])
    batched = vmap(lambda scale: augment.apply_affine(x, scale=scale, interpolation=interpolation))(scales)
    assert torch.equal(batched[0], x)
    assert batched[1].isnan().all()


def test_the_translation_drawn_is_that_of_affine(key: Tensor) -> None:
    x = images()
    assert torch.equal(augment.translate(x, 0.3, key=key), augment.affine(x, key=key, translate=0.3))


def test_hue_is_a_group() -> None:
    x = images()
    there = augment.apply_color(x, hue=torch.full((5,), 0.3, dtype=torch.float64))
    torch.testing.assert_close(augment.apply_color(there, hue=-0.3), x, rtol=0, atol=1e-12)
    assert float((there - x).abs().max()) > 0.1
    torch.testing.assert_close(augment.apply_color(x, hue=0.5), augment.apply_color(x, hue=-0.5), rtol=0, atol=1e-12)


# Policies.


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
def test_images_grouped_by_operation_equal_every_operation_of_all(dtype: torch.dtype) -> None:
    """The first is what runs on a CPU, the second on a GPU and under a derivative."""
    x = images(dtype, (60, 3, 9, 14))
    operation, amount = torch.arange(60) % 15, torch.linspace(0, 0.9, 60, dtype=torch.float64)
    fill = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64).expand(60, 3)
    given = (x, operation, amount, fill, "bilinear", True)
    assert torch.equal(policies._grouped(*given), policies._each(*given))


def test_strengths_and_keys_are_batched_together(key: Tensor) -> None:
    x, strengths = images(torch.uint8), torch.tensor([0.0, 9.0, 30.0])
    keys = fr.random.split(key, 3)
    batched = vmap(lambda key, magnitude: augment.rand_augment(x, key=key, magnitude=magnitude))(keys, strengths)
    looped = [augment.rand_augment(x, key=each, magnitude=m) for each, m in zip(keys, (0, 9, 30), strict=True)]
    assert torch.equal(batched, torch.stack(looped))


def test_an_operation_or_an_amount_that_is_none_gives_nan() -> None:
    operation, amount = torch.tensor([-1, 15, 10, 6, 6]), torch.tensor([0.0, 0.0, 9.0, -2.0, 0.0])
    result = augment.apply_operation(images(), operation, amount)
    assert result.isnan().flatten(1).all(dim=1).tolist() == [True] * 4 + [False]
    assert torch.equal(result[4], images()[4])


def test_a_name_is_an_operation_of_all_images() -> None:
    x = images()
    for place, name in enumerate(augment.OPERATIONS):
        each = augment.apply_operation(x, torch.full((5,), place), 0.5)
        assert torch.equal(augment.apply_operation(x, name, 0.5), each)
        still = ("identity", "translate_x", "translate_y", "rotate")  # by half a pixel or half a degree
        assert torch.equal(each, x) == (name in still), name


def test_every_operation_is_drawn_equally_often(key: Tensor) -> None:
    operation = policies.chosen(fr.random.uniform(key, (14_000,), dtype=torch.float64), 14)
    assert scipy.stats.chisquare(operation.bincount(minlength=14).numpy()).pvalue > 1e-3


# Derivatives, and operators that a compiler does not look into.


def test_the_slope_in_the_degrees_is_that_of_a_difference(key: Tensor) -> None:
    x = images()

    def energy(degrees: Tensor) -> Tensor:
        return augment.rotate(x, degrees, key=key).square().sum()

    at, step = torch.tensor(10.0, dtype=torch.float64), 1e-6
    slope = grad(energy)(at)
    assert float(slope) != 0
    torch.testing.assert_close(slope, (energy(at + step) - energy(at - step)) / (2 * step), rtol=1e-6, atol=0)


def _cropped(x: Tensor) -> Tensor:
    top = torch.tensor([0, 2, 1, 3, 0])
    return operators.windows(x, top, top, SIZE[2:], padding=3, fill=0.5)


def _sampled(x: Tensor) -> Tensor:
    return augment.apply_affine(x, angle=torch.arange(5) * 10.0)


@pytest.mark.parametrize("function", [_cropped, _sampled])
def test_operators_are_differentiated(function: Callable[[Tensor], Tensor]) -> None:
    x, direction = images(), images().flip(0)
    slope = grad(lambda x: (function(x) ** 2).sum())
    if function is _cropped or TORCH >= (2, 15):  # which has a forward derivative of grid_sample
        value, tangent = jvp(function, (x,), (direction,))[:2]
        torch.testing.assert_close((slope(x) * direction).sum(), 2 * (value * tangent).sum(), rtol=1e-12, atol=0)
    torch.testing.assert_close(vmap(slope)(torch.stack((x, direction)))[1], slope(direction), rtol=0, atol=1e-14)
    watched = x.clone().requires_grad_()
    theirs = torch.autograd.grad(function(watched).square().sum(), watched)[0]
    torch.testing.assert_close(theirs, slope(x), rtol=0, atol=1e-14)


def test_operators_are_differentiated_in_programs() -> None:
    def slopes(x: Tensor) -> tuple[Tensor, Any]:
        return grad(lambda x: (_cropped(x) ** 2).sum())(x), jvp(_cropped, (x,), (x,))[1]

    for ours, eager in zip(fr.jit(slopes)(images()), slopes(images()), strict=True):
        torch.testing.assert_close(ours, eager, rtol=0, atol=1e-14)
        assert float(eager.abs().max()) > 0


@pytest.mark.parametrize("function", [_cropped, _sampled])
def test_operators_under_nested_vmap_equal_loops(function: Callable[[Tensor], Tensor]) -> None:
    x = images(size=(2, 3, *SIZE))
    nested = vmap(vmap(function))(x)
    looped = torch.stack([torch.stack([function(each) for each in row]) for row in x])
    torch.testing.assert_close(nested, looped, rtol=0, atol=1e-15)
    second = vmap(function, in_dims=2, out_dims=1)(x[0].movedim(0, 2))
    assert torch.equal(second.movedim(1, 0), nested[0])


# Composition.


def test_a_composition_is_its_parts_with_a_key_each(key: Tensor) -> None:
    x, keys = images(), fr.random.split(key, 3)
    together = augment.compose(
        augment.flip, partial(augment.mixup, alpha=0.5), lambda images, *, key: augment.cutout(images, 3, key=key)
    )
    expected = augment.flip(x, key=keys[0])
    expected, targets = augment.mixup(expected, TARGETS, 0.5, key=keys[1])
    expected = augment.cutout(expected, 3, key=keys[2])
    ours = together(x, TARGETS, key=key)
    assert torch.equal(ours[0], expected)
    assert torch.equal(ours[1], targets)


def test_targets_pass_by_what_does_not_mix(key: Tensor) -> None:
    inner = augment.compose(augment.flip, partial(augment.crop, padding=1))
    x, targets = augment.compose(inner, augment.flip)(images(), TARGETS, key=key)
    assert torch.equal(targets, TARGETS)
    assert torch.equal(augment.compose(inner, augment.flip)(images(), key=key), x)


def test_what_draws_nothing_is_composed_as_it_is(key: Tensor) -> None:
    normalize = partial(augment.apply_normalize, mean=0.5, std=0.25)
    together = augment.compose(augment.flip, normalize)
    flipped = augment.flip(images(), key=fr.random.split(key)[0])
    assert torch.equal(together(images(), key=key), normalize(flipped))
    assert torch.equal(together(images(), TARGETS, key=key)[1], TARGETS)


def test_sometimes_changes_each_image_or_keeps_it(key: Tensor) -> None:
    many = images(torch.float32, (4000, 1, 1, 2))
    for rate in (0.0, 0.3, 1.0):
        changed = augment.sometimes(augment.apply_invert, rate)(many, key=key)
        chosen = (changed == 1 - many).flatten(1).all(dim=1)
        assert bool((chosen | (changed == many).flatten(1).all(dim=1)).all())
        assert scipy.stats.binomtest(int(chosen.sum()), 4000, rate).pvalue > 1e-3
    assert bool(augment.sometimes(augment.flip, torch.tensor(torch.nan))(many, key=key).isnan().all())


def test_sometimes_mixes_targets_with_their_images(key: Tensor) -> None:
    mixed, targets = augment.sometimes(partial(augment.mixup, alpha=1.0), 0.5)(images(), TARGETS, key=key)
    still = (mixed == images()).flatten(1).all(dim=1)
    assert torch.equal(still, (targets == TARGETS).all(dim=1))
    assert 0 < int(still.sum()) < 5
    kept = augment.sometimes(augment.flip, 0.5)(images(), TARGETS, key=key)
    assert torch.equal(kept[1], TARGETS)
    inner = augment.compose(augment.flip, augment.sometimes(partial(augment.mixup, alpha=1.0), 0.5))
    assert inner(images(), key=key, targets=TARGETS)[1].shape == TARGETS.shape


def test_the_coin_of_sometimes_is_not_what_the_function_draws(key: Tensor) -> None:
    """Else a flip of half of the images, applied to half of them, would flip half or none."""
    many = images(torch.float32, (4000, 1, 1, 2))
    flipped = augment.sometimes(augment.flip, 0.5)(many, key=key)
    changed = int((flipped != many).flatten(1).any(dim=1).sum())
    assert scipy.stats.binomtest(changed, 4000, 0.25).pvalue > 1e-3


@pytest.mark.parametrize("size", [(5,), (5, 7), (5, 3, 4)])
def test_hidden_features_are_mixed_as_images_are(size: tuple[int, ...], key: Tensor) -> None:
    features = images(size=size)
    mixed, targets = augment.mixup(features, TARGETS, 0.5, key=key)
    as_images, same = augment.mixup(features.reshape(5, -1, 1, 1), TARGETS, 0.5, key=key)
    assert torch.equal(mixed, as_images.reshape(size))
    assert torch.equal(targets, same)


def test_equalizing_a_channel_with_nan_gives_nan_and_leaves_the_others() -> None:
    images = fr.random.uniform(fr.random.key(0), (1, 2, 4, 4))
    images = torch.where(torch.arange(32).reshape(1, 2, 4, 4) == 3, torch.nan, images)
    changed = augment.apply_equalize(images)
    assert changed[0, 0].isnan().all()
    assert torch.equal(changed[0, 1], augment.apply_equalize(images[:, 1:])[0, 0])


LEVELS: dict[str, Any] = {
    "color_jitter": lambda x: augment.color_jitter(x, key=fr.random.key(0), brightness=0.1),
    "apply_color": lambda x: augment.apply_color(x, hue=0.1),
    "apply_invert": augment.apply_invert,
    "apply_solarize": lambda x: augment.apply_solarize(x, 0.5),
    "apply_posterize": lambda x: augment.apply_posterize(x, 4),
    "apply_autocontrast": augment.apply_autocontrast,
    "apply_equalize": augment.apply_equalize,
    "apply_sharpness": lambda x: augment.apply_sharpness(x, 2.0),
    "rand_augment": lambda x: augment.rand_augment(x, key=fr.random.key(0)),
    "trivial_augment": lambda x: augment.trivial_augment(x, key=fr.random.key(0)),
    "auto_augment": lambda x: augment.auto_augment(x, "cifar10", key=fr.random.key(0)),
    "apply_operation": lambda x: augment.apply_operation(x, "invert", 0.0),
}


@pytest.mark.parametrize("name", LEVELS)
def test_levels_outside_of_their_range_are_refused_or_nan(name: str) -> None:
    images, change = torch.linspace(0, 1, 96).reshape(2, 3, 4, 4), LEVELS[name]
    for wrong in (255 * images, 2 * images - 1, torch.full_like(images, torch.inf)):
        for call in (lambda x=wrong: change(x), lambda x=wrong: vmap(change)(x[None])):
            with pytest.raises(fr.FuncregError, match=r"images: got numbers from .* expected numbers in \[0, 1\]"):
                call()
    for right in (images + 1e-4, images.half(), (255 * images).to(torch.uint8)):
        assert change(right).shape == images.shape


@pytest.mark.parametrize("name", [name for name in LEVELS if "augment" not in name and name != "apply_operation"])
def test_levels_outside_are_nan_in_a_program(name: str) -> None:
    images = torch.linspace(0, 1, 96).reshape(2, 3, 4, 4)
    with _jit.recording():  # as in a program that is being made
        assert LEVELS[name](255 * images).isnan().any()
        assert LEVELS[name](images).isfinite().all()

"""fr.losses: batched settings, reductions, dtypes, and derivatives at the awkward places."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.func import grad, hessian, vmap

import funcreg as fr
from funcreg import _jit, losses


def drawn(seed: int, *shape: int) -> Tensor:
    return fr.random.normal(fr.random.key(seed), shape, dtype=torch.float64)


LOGITS, TARGETS = 3 * drawn(0, 6, 4), fr.random.randint(fr.random.key(1), (6,), 0, 4)
SOFT, WEIGHT = torch.softmax(drawn(2, 6, 4), dim=-1), drawn(3, 4).exp()


@pytest.mark.parametrize("targets", [TARGETS, SOFT], ids=["integers", "soft"])
def test_cross_entropy_settings_may_be_batched(targets: Tensor) -> None:
    smoothing, weight = torch.tensor([0.0, 0.1, 0.5], dtype=torch.float64), drawn(6, 3, 4).exp()

    def one(smoothing: Any, weight: Tensor) -> Tensor:
        return losses.cross_entropy(LOGITS, targets, smoothing=smoothing, weight=weight)

    alone = torch.stack([one(float(s), w) for s, w in zip(smoothing, weight, strict=True)])
    torch.testing.assert_close(vmap(one)(smoothing, weight), alone, rtol=1e-12, atol=1e-12)
    targets_too = vmap(lambda t: losses.cross_entropy(LOGITS, t, weight=WEIGHT))(
        torch.stack((targets, targets.flip(0)))
    )
    flipped = losses.cross_entropy(LOGITS, targets.flip(0), weight=WEIGHT)
    torch.testing.assert_close(targets_too[1], flipped, rtol=1e-12, atol=1e-12)


def test_one_example_needs_no_batch() -> None:
    alone, batch = losses.cross_entropy(LOGITS[0], TARGETS[0]), losses.cross_entropy(LOGITS[:1], TARGETS[:1])
    assert alone.shape == ()
    torch.testing.assert_close(alone, batch)


def test_integer_targets_are_their_one_hot_ones() -> None:
    one_hot = F.one_hot(TARGETS, 4).double()
    for smoothing in (0.0, 0.3):
        integers, soft = (losses.cross_entropy(LOGITS, t, smoothing=smoothing) for t in (TARGETS, one_hot))
        torch.testing.assert_close(integers, soft, rtol=1e-12, atol=1e-12)
    for dtype in (torch.int32, torch.uint8):
        assert losses.cross_entropy(LOGITS, TARGETS.to(dtype)) == losses.cross_entropy(LOGITS, TARGETS)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    "loss", [losses.mse, losses.mae, losses.binary_cross_entropy, losses.correlation, losses.spectral_l2]
)
def test_reductions_are_over_examples(loss: Callable[..., Tensor], reduction: str) -> None:
    each = loss(LOGITS, SOFT, reduction="none")
    assert each.shape == (6,)
    torch.testing.assert_close(loss(LOGITS, SOFT, reduction=reduction), getattr(each, reduction)())
    alone = torch.stack([loss(x[None], y[None]) for x, y in zip(LOGITS, SOFT, strict=True)])
    torch.testing.assert_close(each, alone)


@given(st.floats(0.1, 100), st.floats(-100, 100))
def test_correlation_is_blind_to_scale_and_offset(scale: float, offset: float) -> None:
    x, y = drawn(9, 20), drawn(10, 20)
    torch.testing.assert_close(losses.correlation(scale * x + offset, y), losses.correlation(x, y))
    torch.testing.assert_close(losses.correlation(-scale * x, x), torch.tensor(2.0, dtype=torch.float64))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_correlation_of_what_is_not_finite_is_no_number(value: float) -> None:
    x, y = torch.tensor([1.0, value, 2.0]), torch.tensor([1.0, 2.0, 4.0])
    assert losses.correlation(x, y).isnan()
    assert losses.correlation(y, x).isnan()
    assert losses.correlation(torch.full((3,), value), y).isnan()


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6, 1e-30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_correlation_of_a_flat_signal_is_zero_and_has_no_slope(value: float, dtype: torch.dtype) -> None:
    flat, y = torch.full((33,), value, dtype=dtype), drawn(10, 33).to(dtype)
    for pair in ((flat, y), (y, flat), (flat, flat)):
        assert float(losses.correlation(*pair)) == 1
        slope = grad(losses.correlation)(*pair)
        assert torch.equal(slope, torch.zeros_like(slope))
        assert bool(torch.isfinite(hessian(losses.correlation)(*pair)).all())


def test_correlation_survives_tiny_and_huge_signals() -> None:
    x, y = drawn(9, 20).float(), drawn(10, 20).float()
    for scale in (1e-15, 1e15):  # squares of these still fit float32
        torch.testing.assert_close(losses.correlation(scale * x, scale * y), losses.correlation(x, y))


@pytest.mark.parametrize("offset", [1e3, 1e5, 1e7])
def test_correlation_of_signals_far_from_zero_is_that_of_float64(offset: float) -> None:
    x, y = ((100 * drawn(seed, 3, 20) + offset).float() for seed in (9, 10))
    exact = losses.correlation(x.double(), y.double())
    torch.testing.assert_close(losses.correlation(x, y).double(), exact, rtol=1e-5, atol=0.0)


def test_spectral_l2_is_blind_to_shifts() -> None:
    x, y = drawn(11, 16), drawn(12, 16)
    torch.testing.assert_close(losses.spectral_l2(x.roll(5), y), losses.spectral_l2(x, y))
    assert float(losses.spectral_l2(2 * x, x)) > 0.1


def test_spectral_l2_is_smooth_enough_where_a_magnitude_is_zero() -> None:
    silent, y = torch.zeros(8, dtype=torch.float64), drawn(12, 8)
    assert torch.equal(grad(losses.spectral_l2)(silent, y), silent)
    assert bool(torch.isfinite(hessian(losses.spectral_l2)(silent, y)).all())


def test_a_row_that_excludes_all_classes_is_no_hit_and_no_miss() -> None:
    logits = torch.tensor([[-torch.inf, 0.0], [-torch.inf, -torch.inf]])
    scores = losses.accuracy(logits, torch.tensor([1, 0]), reduction="none")
    assert scores[0] == 1
    assert scores[1].isnan()


def test_accuracy_counts_hits() -> None:
    hits = LOGITS.argmax(dim=-1) == TARGETS
    assert torch.equal(losses.accuracy(LOGITS, TARGETS, reduction="none"), hits.float())
    assert losses.accuracy(LOGITS, LOGITS.softmax(dim=-1)) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_inputs_are_computed_in_float32(dtype: torch.dtype) -> None:
    logits, soft, smoothing = LOGITS.to(dtype), SOFT.to(dtype), torch.tensor(0.1, dtype=torch.float64)
    pairs = [
        (losses.cross_entropy(logits, soft, smoothing=smoothing),
         losses.cross_entropy(logits.float(), soft.float(), smoothing=smoothing)),
        (losses.binary_cross_entropy(logits, soft, smoothing=smoothing),
         losses.binary_cross_entropy(logits.float(), soft.float(), smoothing=smoothing)),
        *((loss(logits, soft), loss(logits.float(), soft.float()))
          for loss in (losses.mse, losses.mae, losses.correlation, losses.spectral_l2)),
    ]  # fmt: skip
    for ours, precise in pairs:
        assert ours.dtype == torch.float32
        assert torch.equal(ours, precise)
    assert grad(losses.cross_entropy)(logits, TARGETS).dtype == dtype


def test_a_float64_setting_does_not_promote() -> None:
    smoothing = torch.tensor(0.1, dtype=torch.float64)
    logits, soft, weight = LOGITS.float(), SOFT.float(), WEIGHT  # the weight is float64, too
    for loss in (
        losses.cross_entropy(logits, TARGETS, smoothing=smoothing, weight=weight),
        losses.cross_entropy(logits[0], TARGETS[0], smoothing=smoothing, reduction="none"),
        losses.cross_entropy(logits, soft, smoothing=smoothing, weight=weight),
        losses.binary_cross_entropy(logits, soft, smoothing=smoothing, weight=weight),
        losses.mse(logits, SOFT),
    ):
        assert loss.dtype == torch.float32


def test_large_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4]])
    assert float(losses.cross_entropy(logits, torch.tensor([1]))) == 2e4
    assert float(losses.binary_cross_entropy(logits, torch.tensor([[0, 1]]))) == 1e4
    assert bool(torch.isfinite(grad(losses.cross_entropy)(logits, torch.tensor([1]), smoothing=0.1)).all())


P = torch.softmax(LOGITS, dim=-1)
OF_CLASSES: dict[str, Callable[[Tensor], Tensor]] = {
    "cross_entropy": lambda y: losses.cross_entropy(LOGITS, y),
    "cross_entropy, smoothed": lambda y: losses.cross_entropy(LOGITS, y, smoothing=0.1, weight=WEIGHT),
    "cross_entropy, none": lambda y: losses.cross_entropy(LOGITS, y, reduction="none"),
    "its gradient": lambda y: grad(losses.cross_entropy)(LOGITS, y),
    "accuracy": lambda y: losses.accuracy(LOGITS, y),
    "negative_log_likelihood": lambda y: fr.uncertainty.negative_log_likelihood(P, y),
    "brier": lambda y: fr.uncertainty.brier(P, y),
    "expected_calibration_error": lambda y: fr.uncertainty.expected_calibration_error(P, y),
    "fit_temperature": lambda y: fr.uncertainty.fit_temperature(LOGITS, y, steps=2),
    "class_weights": lambda y: fr.labels.class_weights(y, 4),
    "one_hot": lambda y: fr.labels.one_hot(y, 4),
    "one_hot, integers": lambda y: fr.labels.one_hot(y, 4, dtype=torch.int64),
}
IGNORING = [name for name in OF_CLASSES if "one_hot" not in name]


@pytest.mark.parametrize("name", OF_CLASSES)
@pytest.mark.parametrize("wrong", [-1, 4, 2**40])
def test_what_is_no_class_is_refused_by_name_also_under_vmap(name: str, wrong: int) -> None:
    targets = torch.where(torch.arange(6) == 3, wrong, TARGETS)
    with pytest.raises(fr.FuncregError, match=f"targets: got {wrong} among 6; expected classes in .0, 4"):
        OF_CLASSES[name](targets)
    with pytest.raises(fr.FuncregError, match=f"targets: got {wrong} among 12"):
        vmap(OF_CLASSES[name])(torch.stack((TARGETS, targets)))


def test_a_compiled_program_makes_nan_of_what_is_no_class_and_ignores_what_eager_code_does() -> None:
    torch.compiler.reset()
    program = fr.jit(lambda y: {name: function(y) for name, function in OF_CLASSES.items()})
    for wrong in (-1, 4, 2**40):
        found = program(torch.where(torch.arange(6) == 3, wrong, TARGETS))
        for name in ("cross_entropy, none", "its gradient", "one_hot"):
            assert bool(found[name][3].isnan().all()), name
            torch.testing.assert_close(found.pop(name)[0].isnan().any(), torch.tensor(name == "its gradient"))
        assert found.pop("one_hot, integers")[3].tolist() == [-1] * 4
        assert {name for name, value in found.items() if bool(value.isnan().all())} == set(found)
    ignored = torch.where(torch.arange(6) == 3, -100, TARGETS)
    found = program(ignored)
    for name in IGNORING:
        torch.testing.assert_close(found[name], OF_CLASSES[name](ignored), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in IGNORING if name not in ("its gradient", "cross_entropy, none")])
def test_an_ignored_target_counts_as_if_its_example_were_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_it = OF_CLASSES[name](torch.where(torch.arange(6) > 3, -100, TARGETS))
    monkeypatch.setitem(globals(), "LOGITS", LOGITS[:4])
    monkeypatch.setitem(globals(), "P", P[:4])
    torch.testing.assert_close(with_it, OF_CLASSES[name](TARGETS[:4]), rtol=1e-12, atol=1e-12)


def test_what_is_ignored_may_be_anything() -> None:
    targets = torch.tensor([0, 1, -100, 2, 3, -100])
    nothing = LOGITS.index_fill(0, torch.tensor([2]), torch.nan).index_fill(0, torch.tensor([5]), -torch.inf)
    for smoothing in (0.0, 0.2):
        ours, theirs = (
            grad(lambda x, s=smoothing: losses.cross_entropy(x, targets, smoothing=s, weight=WEIGHT))(x)
            for x in (nothing, LOGITS)
        )
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=0)
    assert losses.cross_entropy(LOGITS, targets.clamp(max=0).where(targets < 0, -100)).isnan(), "as F.cross_entropy"
    assert losses.accuracy(nothing, targets) == losses.accuracy(LOGITS, targets)


def test_nothing_plausible_comes_of_nan_or_of_nothing() -> None:
    unknown = LOGITS.index_fill(0, torch.tensor([2]), torch.nan)
    assert losses.accuracy(unknown, TARGETS).isnan()
    assert losses.accuracy(LOGITS, unknown).isnan()
    with pytest.raises(fr.FuncregError, match="reduction: got 'mean' of no examples"):
        losses.cross_entropy(LOGITS[:0], TARGETS[:0])
    assert losses.mse(LOGITS[:0], LOGITS[:0], reduction="sum") == 0


def test_smoothing_of_an_excluded_class_is_infinite_and_its_gradient_is_not() -> None:
    """The limit: the gradient is that of a logit of -1e9, at any smoothing, a number or a tensor."""
    logits, low = (torch.tensor([[3.0, 0.0, each]]) for each in (-torch.inf, -1e9))
    for rate in (0.1, 1.0, torch.tensor(0.1), torch.tensor(1.0)):
        for target in (torch.tensor([0]), torch.tensor([2]), torch.tensor([[0.5, 0.5, 0.0]])):
            assert losses.cross_entropy(logits, target, smoothing=rate) == torch.inf
            ours, theirs = (
                grad(lambda x, s=rate, t=target: losses.cross_entropy(x, t, smoothing=s))(x) for x in (logits, low)
            )
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.binary_cross_entropy])
def test_targets_that_are_no_probabilities_are_refused_or_nan(loss: Callable[..., Tensor]) -> None:
    signs = torch.where(torch.arange(24).reshape(6, 4) == 9, -1.0, SOFT)
    for call in (lambda: loss(LOGITS, signs), lambda: vmap(loss)(LOGITS[None], signs[None])):
        with pytest.raises(fr.FuncregError, match="targets: got 1 of 24 numbers outside of it"):
            call()
    with _jit.recording():  # as in a program that is being made
        assert loss(LOGITS, signs, reduction="none").isnan().tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize(
    "function", [lambda soft: losses.cross_entropy(LOGITS, soft), lambda soft: fr.labels.smooth_labels(soft, 0.1)]
)
def test_targets_of_another_sum_are_refused_or_nan(function: Callable[[Tensor], Tensor]) -> None:
    wrong = torch.cat((SOFT[:2], torch.zeros_like(SOFT[:1]), SOFT[3:4] / 2, SOFT[4:]))
    for call in (lambda: function(wrong), lambda: vmap(function)(wrong[None])):
        with pytest.raises(fr.FuncregError, match="targets: got 2 of 6 rows that do not sum to 1"):
            call()
    with _jit.recording():  # as in a program that is being made
        assert function(wrong).isnan().any()
    for dtype in (torch.float16, torch.bfloat16):  # whose rounding is no fault
        assert function(torch.softmax(drawn(5, 6, 4), -1).to(dtype)).isfinite().all()


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.binary_cross_entropy])
@pytest.mark.parametrize("wrong", [-1.0, torch.nan, torch.inf])
def test_weights_that_are_none_are_refused_or_nan(loss: Callable[..., Tensor], wrong: float) -> None:
    weight = torch.tensor([1.0, wrong, 0.0, 2.0])
    for call in (
        lambda: loss(LOGITS, SOFT, weight=weight),
        lambda: vmap(lambda w: loss(LOGITS, SOFT, weight=w))(weight[None]),
    ):
        with pytest.raises(fr.FuncregError, match="weight: got 1 of 4 numbers that are negative or not finite"):
            call()
    with _jit.recording():  # as in a program that is being made
        assert loss(LOGITS, SOFT, weight=weight).isnan()


def test_classes_that_all_weigh_nothing_are_refused() -> None:
    with pytest.raises(fr.FuncregError, match="weight: got zeros alone"):
        losses.cross_entropy(LOGITS, SOFT, weight=torch.zeros(4))
    assert losses.binary_cross_entropy(LOGITS, SOFT, weight=torch.zeros(4)) == 0  # whose mean is over all elements


def test_an_ignored_class_beside_probabilities_is_refused() -> None:
    for call in (
        lambda: losses.cross_entropy(LOGITS, SOFT, ignore_index=1),
        lambda: losses.accuracy(LOGITS, SOFT, ignore_index=1),
        lambda: fr.uncertainty.conformal_quantile(LOGITS[:, 0], 0.5, ignore_index=1),
    ):
        with pytest.raises(fr.FuncregError, match="ignore_index: got 1"):
            call()


@pytest.mark.parametrize("size", [1.0, 0.1, 1e-3, 1e-5, 1e-6])
def test_divergence_of_what_nearly_agrees_is_that_of_float64(size: float) -> None:
    teacher = (3 * drawn(8, 20, 5)).float()
    student = teacher + (size * drawn(9, 20, 5)).float()
    for offsets in ((0.0, 0.0), (64.0, 0.0), (0.0, 1e4)):
        pair = [
            torch.cat((each + offset, torch.full((20, 1), -torch.inf)), dim=1)
            for each, offset in zip((student, teacher), offsets, strict=True)
        ]
        wide = [each.double() for each in pair]
        for reduction in ("none", "sum"):
            ours, exact = (losses.kl_divergence(*each, reduction=reduction) for each in (pair, wide))
            torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=0.0)
        ours, exact = (grad(losses.kl_divergence)(*each) for each in (pair, wide))
        torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=1e-6 * float(exact.abs().max()))


def test_divergence_is_the_cross_entropy_without_the_targets_entropy() -> None:
    soft, other = torch.softmax(LOGITS, dim=-1), drawn(8, 6, 4)
    entropy = -(soft * soft.log()).sum(dim=-1).mean()
    torch.testing.assert_close(losses.kl_divergence(other, LOGITS), losses.cross_entropy(other, soft) - entropy)
    assert float(losses.kl_divergence(LOGITS + 3, LOGITS)) == pytest.approx(0, abs=1e-15)
    assert float(grad(losses.kl_divergence)(LOGITS, LOGITS).abs().max()) < 1e-16


def test_divergence_at_excluded_classes() -> None:
    q, p = LOGITS.clone(), drawn(8, 6, 4)
    q[:, 1] = p[:, :2] = -torch.inf
    for slope in grad(losses.kl_divergence, argnums=(0, 1))(q, p):
        assert bool(slope.isfinite().all())
        assert float(slope[:, 1].abs().max()) == 0
    p[:, 1] = 0.0
    assert losses.kl_divergence(q, p, reduction="none").tolist() == [torch.inf] * 6, "q excludes what p does not"
    assert losses.kl_divergence(q, torch.full_like(p, -torch.inf)).isnan(), "a target without a class is none"


def gaussian(means: Any, log_variances: Any, **how: Any) -> Tensor:
    predictions = torch.tensor([means, log_variances]).T.contiguous()
    return losses.gaussian_nll(predictions, torch.zeros(len(means), 1), reduction="none", **how)


def test_a_gaussian_head_is_finite_where_its_variance_vanishes_or_overflows() -> None:
    each = gaussian([0.0, 0.0, 1e-3, 1.0], [-1e4, -torch.inf, -200.0, 1e3])
    torch.testing.assert_close(each, torch.tensor([math.log(1e-6) / 2] * 2 + [(math.log(1e-6) + 1) / 2, 500.0]))
    at = torch.tensor([[0.0, -1e4], [1e-3, -200.0], [1.0, 1e3]])
    slope = grad(lambda p: losses.gaussian_nll(p, torch.zeros(3, 1), reduction="sum"))(at)
    torch.testing.assert_close(slope, torch.tensor([[0.0, 0.0], [1e3, 0.0], [0.0, 0.5]]))


def test_the_least_variance_may_be_batched_and_does_not_promote() -> None:
    least = torch.tensor([1e-6, 0.5, 2.0, 0.0], dtype=torch.float64)
    batched = vmap(lambda v: gaussian([1.0, 2.0], [0.0, 1.0], min_variance=v))(least)
    assert batched.dtype == torch.float32
    for row, value in zip(batched[:3], least[:3].tolist(), strict=True):
        torch.testing.assert_close(row, gaussian([1.0, 2.0], [0.0, 1.0], min_variance=value))
    assert batched[3].isnan().all()


@pytest.mark.parametrize("loss", [losses.mse, losses.mae, losses.gaussian_nll])
def test_what_is_masked_has_no_part(loss: Any) -> None:
    """Not even NaN; an example of nothing is 0, and a mean of nothing is none."""
    last = 4 if loss is losses.gaussian_nll else 2
    predictions, targets = torch.sin(torch.arange(12.0 * last)).reshape(4, 3, last), torch.ones(4, 3, 2)
    mask = torch.arange(24).reshape(4, 3, 2) % 5 > 1
    mask = torch.where(torch.tensor([True, True, True, False])[:, None, None], mask, False)
    spoilt = torch.where(mask, targets, torch.nan)
    alone = [loss(predictions[0], targets[0], mask=mask[0], reduction=each) for each in ("mean", "sum")]
    each = loss(predictions, spoilt, mask=mask, reduction="none")
    torch.testing.assert_close(each[0], alone[0])
    assert each[3] == 0
    torch.testing.assert_close(loss(predictions, spoilt, mask=mask, reduction="sum"), each.sum())
    counts = mask.flatten(1).sum(1)
    torch.testing.assert_close(loss(predictions, spoilt, mask=mask), (each * counts).sum() / counts.sum())
    slope = grad(lambda p: loss(p, spoilt, mask=mask))(predictions)
    assert slope.isfinite().all()
    assert bool((slope[..., :2] != 0).equal(mask))
    assert loss(predictions, targets, mask=mask & False).isnan()
    whole = loss(predictions, targets, mask=torch.ones_like(mask))
    torch.testing.assert_close(whole, loss(predictions, targets))


def test_16_bits_of_a_gaussian_head_are_float32() -> None:
    p, t = torch.tensor([[3.0, -8.0], [1.0, 8.0]], dtype=torch.bfloat16), torch.zeros(2, 1, dtype=torch.bfloat16)
    assert torch.equal(losses.gaussian_nll(p, t), losses.gaussian_nll(p.float(), t.float()))
    assert losses.gaussian_nll(p, t).dtype == torch.float32


@pytest.mark.parametrize("apart", [1e-1, 1e-3, 1e-4])
def test_divergence_of_what_nearly_agrees_is_not_rounding(apart: float) -> None:
    """In float32 the sum of p log(p / q) is off by 1e-7, which may be more than all there is, and below 0."""
    close = LOGITS + apart * drawn(8, 6, 4)
    exact = losses.kl_divergence(close, LOGITS, reduction="none")
    narrow = losses.kl_divergence(close.float(), LOGITS.float(), reduction="none")
    assert float(narrow.min()) > 0
    torch.testing.assert_close(narrow.double(), exact, rtol=2e-6 / apart, atol=0)
    apart_by_far = torch.tensor([[50.0, -50.0, 0.0]])
    torch.testing.assert_close(losses.kl_divergence(-apart_by_far, apart_by_far), torch.tensor(100.0))

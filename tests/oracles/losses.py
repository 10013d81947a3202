"""What `losses` are compared with: torch.nn.functional, with gradients and Hessians, and scipy."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import scipy.special
import sklearn.metrics
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, hessian, vmap

import funcreg as fr
from funcreg import losses
from tests.oracles import Pair, oracle

REORDERED = "float64, summed in another order"
ROUNDING = {"tolerance": 1e-13, "because": REORDERED}
DERIVED = "float64, summed in another order; values, gradients and Hessians"
IN_DEPTH = {"tolerance": 1e-13, "because": DERIVED}
REDUCTIONS = ("mean", "sum", "none")


def drawn(seed: int, *shape: int) -> Tensor:
    return fr.random.normal(fr.random.key(seed), shape, dtype=torch.float64)


LOGITS, WEIGHT = 3 * drawn(0, 6, 4), drawn(3, 4).exp()
TARGETS = {
    "integer": fr.random.randint(fr.random.key(1), (6,), 0, 4),
    "soft": torch.softmax(drawn(2, 6, 4), dim=-1),
}
SOFT = TARGETS["soft"]


def in_depth(loss: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, ...]:
    """A loss, and the first two derivatives of the sum of its squares: each of several values has its own factor."""

    def squares(x: Tensor) -> Tensor:
        return (loss(x) ** 2).sum()

    return loss(at), grad(squares)(at), hessian(squares)(at)


def compared(ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], at: Tensor) -> Pair:
    return in_depth(ours, at), in_depth(theirs, at)


def cross_entropy(kind: str, reduction: str) -> Pair:
    pairs = []
    for smoothing in (0.0, 0.1, 1.0):
        for weight in (None, WEIGHT):
            shared: Any = {"target": TARGETS[kind], "weight": weight, "reduction": reduction}
            pairs.append(
                compared(
                    lambda x, s=smoothing, w=weight: losses.cross_entropy(
                        x, TARGETS[kind], smoothing=s, weight=w, reduction=reduction
                    ),
                    lambda x, s=smoothing, shared=shared: F.cross_entropy(x, label_smoothing=s, **shared),
                    LOGITS,
                )
            )
    ours, theirs = zip(*pairs, strict=True)
    return ours, theirs


for _kind in TARGETS:
    for _reduction in REDUCTIONS:
        _against = f"F.cross_entropy: {_kind} targets, smoothed, weighted, {_reduction!r}"
        oracle(
            "losses.cross_entropy",
            against=_against,
            tolerance=2e-14 if _reduction == "mean" else 2e-13,
            because=DERIVED,
        )(partial(cross_entropy, _kind, _reduction))


@oracle("losses.cross_entropy", against="F.cross_entropy, whose classes are axis 1", **ROUNDING)
def cross_entropy_of_sequences() -> Pair:
    logits, targets = drawn(4, 2, 3, 5), fr.random.randint(fr.random.key(5), (2, 3), 0, 5)
    ours = [losses.cross_entropy(logits, targets, reduction=each, smoothing=0.2) for each in REDUCTIONS]
    return ours, [
        F.cross_entropy(logits.movedim(-1, 1), targets, reduction=each, label_smoothing=0.2) for each in REDUCTIONS
    ]


@oracle("losses.cross_entropy", against="F.cross_entropy: ignored targets, smoothed, weighted", **IN_DEPTH)
def cross_entropy_of_ignored_targets() -> Pair:
    pairs = []
    for index, targets in ((-100, torch.tensor([0, -100, 2, -100, 3, -100])), (2, TARGETS["integer"])):
        for smoothing in (0.0, 0.1, 1.0):
            for weight in (None, WEIGHT):
                for reduction in REDUCTIONS:
                    shared: Any = {"weight": weight, "ignore_index": index, "reduction": reduction}
                    pairs.append(
                        compared(
                            lambda x, t=targets, s=smoothing, shared=shared: losses.cross_entropy(
                                x, t, smoothing=s, **shared
                            ),
                            lambda x, t=targets, s=smoothing, shared=shared: F.cross_entropy(
                                x, t, label_smoothing=s, **shared
                            ),
                            LOGITS,
                        )
                    )
    ours, theirs = zip(*pairs, strict=True)
    return ours, theirs


@oracle("losses.kl_divergence", against="F.kl_div of log_softmax, by both arguments", **IN_DEPTH)
def kl_divergence() -> Pair:
    pairs = []
    for reduction in REDUCTIONS:

        def ours(both: Tensor, reduction: str = reduction) -> Tensor:
            return losses.kl_divergence(*both, reduction=reduction)

        def theirs(both: Tensor, reduction: str = reduction) -> Tensor:
            q, p = F.log_softmax(both, dim=-1)
            each = F.kl_div(q, p, reduction="none", log_target=True).sum(dim=-1)
            return each if reduction == "none" else getattr(each, reduction)()

        pairs.append(compared(ours, theirs, torch.stack((LOGITS, 2 * drawn(7, 6, 4)))))
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


@oracle("losses.kl_divergence", against="scipy.special.rel_entr, with excluded classes", **ROUNDING)
def kl_divergence_of_excluded_classes() -> Pair:
    logits, target_logits = LOGITS.clone(), drawn(7, 6, 4)
    logits[:3, 1] = target_logits[:4, 1] = -torch.inf  # by both, then by the target alone
    q, p = (torch.softmax(each, dim=-1).numpy() for each in (logits, target_logits))
    ours = losses.kl_divergence(logits, target_logits, reduction="none")
    return ours, torch.from_numpy(scipy.special.rel_entr(p, q).sum(axis=1))


@oracle("losses.cross_entropy", against="F.cross_entropy without the excluded class", **IN_DEPTH)
def cross_entropy_of_excluded_classes() -> Pair:
    """What is masked by -inf has no part, in values, gradients or Hessians; also beside batched settings of 0."""
    targets, soft = torch.tensor([0, 1, 3, 0, 1, 3]), SOFT[:, [0, 1, 3]] / SOFT[:, [0, 1, 3]].sum(dim=1, keepdim=True)
    rest = torch.tensor([0, 1, 3])
    kept = torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64)

    def excluded(x: Tensor, targets: Tensor, **settings: Any) -> Tensor:
        masked = torch.full((6, 4), -torch.inf, dtype=torch.float64).index_copy(1, rest, x)
        return vmap(lambda s: losses.cross_entropy(masked, targets, smoothing=s, **settings))(torch.zeros(2).double())

    def whole(x: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
        return F.cross_entropy(x, targets, weight).expand(2)

    padded = torch.zeros(6, 4, dtype=torch.float64).index_copy(1, rest, soft)
    dense = targets.where(targets < 3, 2)
    pairs = [
        compared(lambda x: excluded(x, targets), lambda x: whole(x, dense), LOGITS[:, :3]),
        compared(lambda x: excluded(x, padded), lambda x: whole(x, soft), LOGITS[:, :3]),
        compared(
            lambda x: excluded(x, targets, weight=kept * WEIGHT), lambda x: whole(x, dense, WEIGHT[rest]), LOGITS[:, :3]
        ),
    ]
    return [one for one, _ in pairs], [other for _, other in pairs]


@oracle(
    "losses.cross_entropy",
    against="F.cross_entropy of logits of -1e9, with a weight of 0 where smoothing would be infinite",
    **IN_DEPTH,
)
def cross_entropy_of_a_class_without_weight() -> Pair:
    weight = WEIGHT * torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    targets = torch.tensor([0, 1, 3, 0, 1, 3])

    def masked(x: Tensor, low: float) -> Tensor:
        return torch.where(torch.arange(4) == 2, low, x)

    return compared(
        lambda x: losses.cross_entropy(masked(x, -torch.inf), targets, smoothing=0.3, weight=weight),
        lambda x: F.cross_entropy(masked(x, -1e9), targets, weight, label_smoothing=0.3),
        LOGITS,
    )


@oracle("losses.cross_entropy", against="scipy.special.log_softmax", **ROUNDING)
def cross_entropy_by_scipy() -> Pair:
    expected = -(SOFT.numpy() * scipy.special.log_softmax(LOGITS.numpy(), axis=-1)).sum(axis=-1)
    return losses.cross_entropy(LOGITS, SOFT, reduction="none"), expected


@oracle("losses.cross_entropy", against="sklearn.metrics.log_loss, each example of its class's weight", **ROUNDING)
def cross_entropy_of_sklearn() -> Pair:
    targets, p = TARGETS["integer"], torch.softmax(LOGITS, dim=-1)
    theirs = sklearn.metrics.log_loss(targets, p, sample_weight=WEIGHT[targets], labels=range(4))
    apart = sklearn.metrics.log_loss(targets, p, labels=range(4))
    return (losses.cross_entropy(LOGITS, targets, weight=WEIGHT), losses.cross_entropy(LOGITS, targets)), (
        theirs,
        apart,
    )


@oracle(
    "losses.cross_entropy",
    against="F.cross_entropy in float32",
    tolerance=2e-5,
    because="float32: sums of up to 50, in another order",
)
def cross_entropy_in_float32() -> Pair:
    logits, weight, pairs = LOGITS.float(), WEIGHT.float(), []
    for targets in (TARGETS["integer"], SOFT.float()):
        for each in REDUCTIONS:
            ours = losses.cross_entropy(logits, targets, weight=weight, smoothing=0.1, reduction=each)
            pairs.append((ours, F.cross_entropy(logits, targets, weight, reduction=each, label_smoothing=0.1)))
    return [one for one, _ in pairs], [other for _, other in pairs]


@oracle("losses.cross_entropy", against="the two logits 1e4 apart, by hand", tolerance=0, because="exact")
def cross_entropy_far_out() -> Pair:
    logits = torch.tensor([[5e3, -5e3], [-5e3, 5e3]])
    return losses.cross_entropy(logits, torch.tensor([1, 1]), reduction="none"), torch.tensor([1e4, 0.0])


def binary_cross_entropy(scale: float, reduction: str) -> Pair:
    """Theirs sums over the elements of an example, or leaves them, where ours averages."""

    def reference(x: Tensor, weight: Tensor | None) -> Tensor:
        if reduction == "none":
            return F.binary_cross_entropy_with_logits(x, SOFT, weight=weight, reduction="none").mean(dim=1)
        elements = LOGITS.shape[1] if reduction == "sum" else 1
        return F.binary_cross_entropy_with_logits(x, SOFT, weight=weight, reduction=reduction) / elements

    pairs = []
    for weight in (None, WEIGHT):
        pairs.append(
            compared(
                lambda x, w=weight: losses.binary_cross_entropy(x, SOFT, weight=w, reduction=reduction),
                partial(reference, weight=weight),
                scale * LOGITS,
            )
        )
    ours, theirs = zip(*pairs, strict=True)
    return ours, theirs


for _scale in (1.0, 50.0):
    for _reduction in REDUCTIONS:
        oracle(
            "losses.binary_cross_entropy",
            against=f"F.binary_cross_entropy_with_logits: weighted, logits to {_scale * 8:g}, {_reduction!r}",
            tolerance={"mean": 1e-15, "sum": 1e-13, "none": 1e-14}[_reduction] * _scale,
            because="float64, of this size, summed in another order; values, gradients and Hessians",
        )(partial(binary_cross_entropy, _scale, _reduction))


@oracle(
    "losses.binary_cross_entropy",
    against="the limits at infinite logits: values, gradients and curvatures",
    tolerance=0,
    because="exact",
)
def binary_cross_entropy_of_infinite_logits() -> Pair:
    logits = torch.tensor([-torch.inf, torch.inf, 0.0], dtype=torch.float64)
    hits = torch.tensor([0, 1, 1])
    ours = in_depth(lambda x: losses.binary_cross_entropy(x, hits, reduction="none")[:2], logits)
    wrong = losses.binary_cross_entropy(logits[:2], hits[:2].flip(0), weight=torch.zeros(2))
    slope = grad(lambda x: losses.binary_cross_entropy(x, 1 - hits, reduction="sum"))(logits)
    zeros = (torch.zeros(2), torch.zeros(3), torch.zeros(3, 3))
    return (ours, wrong, slope), (zeros, 0.0, torch.tensor([-1.0, 1.0, 0.5]))


@oracle("losses.binary_cross_entropy", against="F.binary_cross_entropy_with_logits of smoothed targets", **ROUNDING)
def binary_smoothing() -> Pair:
    rates = torch.tensor([0.0, 0.2, 1.0], dtype=torch.float64)
    ours = vmap(lambda s: losses.binary_cross_entropy(LOGITS, SOFT, smoothing=s, weight=WEIGHT))(rates)
    smoothed = [(1 - s) * SOFT + s / 2 for s in rates]
    return list(ours), [F.binary_cross_entropy_with_logits(LOGITS, each, weight=WEIGHT) for each in smoothed]


@oracle("losses.binary_cross_entropy", against="F.binary_cross_entropy_with_logits of other dtypes", **ROUNDING)
def binary_targets() -> Pair:
    logits, hits = LOGITS[:, 0], TARGETS["integer"] > 1
    given = (hits, hits.long(), hits.float())
    ours = [losses.binary_cross_entropy(logits, each, reduction="none") for each in given]
    return ours, [F.binary_cross_entropy_with_logits(logits, hits.double(), reduction="none")] * len(given)


def regression(ours: Callable[..., Tensor], theirs: Callable[..., Tensor]) -> Pair:
    """Theirs are elementwise; an example's elements are averaged."""
    x, y, images, others = drawn(7, 5), drawn(8, 5), drawn(7, 5, 3, 2), drawn(8, 5, 3, 2)
    pairs = [
        compared(partial(ours, targets=y, reduction=each), lambda x, r=each: theirs(x, y, reduction=r), x)
        for each in REDUCTIONS
    ]
    of_images = [ours(images, others, reduction=each) for each in REDUCTIONS]
    per_image = theirs(images, others, reduction="none").flatten(1).mean(dim=1)
    return ([one for one, _ in pairs], of_images), (
        [other for _, other in pairs],
        [theirs(images, others), per_image.sum(), per_image],
    )


oracle("losses.mse", against="F.mse_loss", **IN_DEPTH)(partial(regression, losses.mse, F.mse_loss))
oracle("losses.mae", against="F.l1_loss", **IN_DEPTH)(partial(regression, losses.mae, F.l1_loss))


@oracle(
    "losses.gaussian_nll",
    against="F.gaussian_nll_loss",
    tolerance=1e-12,
    because="float64; values, gradients and Hessians, which are up to some hundred",
)
def gaussian_nll() -> Pair:
    """Of D = 2 numbers each; variances of some below the least."""
    x, y = drawn(11, 5, 4), drawn(12, 5, 2)
    least = 0.3
    assert 0 < (x[:, 2:].exp() < least).sum() < 10

    def ours(x: Tensor, reduction: str) -> Tensor:
        return losses.gaussian_nll(x, y, min_variance=least, reduction=reduction)

    def theirs(x: Tensor, reduction: str) -> Tensor:
        # torch's own floor lets gradients pass that are not those of its value.
        variance = x[:, 2:].exp().clamp_min(least)
        each = F.gaussian_nll_loss(x[:, :2], y, variance, eps=1e-12, reduction="none").mean(dim=1)
        return {"mean": each.mean(), "sum": each.sum(), "none": each}[reduction]

    pairs = [compared(partial(ours, reduction=r), partial(theirs, reduction=r), x) for r in REDUCTIONS]
    floored = F.gaussian_nll_loss(x[:, :2], y, x[:, 2:].exp(), eps=least)
    return ([one for one, _ in pairs], ours(x, "mean")), ([other for _, other in pairs], floored)


@oracle("losses.gaussian_nll", against="torch.distributions.Normal, without log(2 pi) / 2", **IN_DEPTH)
def gaussian_nll_of_distributions() -> Pair:
    x, y = drawn(13, 5, 3, 4), drawn(14, 5, 3, 2)
    mask = y > -0.5

    def theirs(x: Tensor) -> Tensor:
        normal = torch.distributions.Normal(x[..., :2], (x[..., 2:] / 2).exp(), validate_args=False)
        return (-normal.log_prob(y) - np.log(2 * np.pi) / 2)[mask].mean()

    return compared(lambda x: losses.gaussian_nll(x, y, mask=mask), theirs, x)


@oracle("losses.mse", against="F.mse_loss of what a mask leaves", **IN_DEPTH)
def masked_mse() -> Pair:
    x, y = drawn(15, 5, 3), drawn(16, 5, 3)
    mask = y > 0
    return compared(lambda x: losses.mse(x, y, mask=mask), lambda x: F.mse_loss(x[mask], y[mask]), x)


@oracle("losses.mae", against="F.l1_loss of what a mask leaves", **IN_DEPTH)
def masked_mae() -> Pair:
    x, y = drawn(15, 5, 3), drawn(16, 5, 3)
    mask = y > 0
    return compared(lambda x: losses.mae(x, y, mask=mask), lambda x: F.l1_loss(x[mask], y[mask]), x)


@oracle("losses.correlation", against="1 - numpy.corrcoef", tolerance=1e-14, because=REORDERED)
def correlation_of_numpy() -> Pair:
    x, y = drawn(9, 3, 20), drawn(10, 3, 20)
    return losses.correlation(x, y, reduction="none"), 1 - np.diag(np.corrcoef(x, y)[:3, 3:])


@oracle("losses.correlation", against="1 - numpy.corrcoef, whatever the scale", tolerance=1e-5, because="a float32")
def correlation_of_any_scale() -> Pair:
    x, y = drawn(9, 3, 20), drawn(10, 3, 20)
    ours = [
        losses.correlation((a * x).float(), (b * y).float(), reduction="none")
        for a, b in ((1e-30, 1.0), (1e30, 1e-30), (1e37, 1e37))
    ]
    return ours, 3 * [(1 - np.diag(np.corrcoef(x, y)[:3, 3:])).astype(np.float32)]


@oracle("losses.correlation", against="1 - torch.corrcoef", tolerance=1e-14, because=DERIVED)
def correlation_of_torch() -> Pair:
    x, y = drawn(9, 20), drawn(10, 20)
    return compared(lambda x: losses.correlation(x, y), lambda x: 1 - torch.corrcoef(torch.stack((x, y)))[0, 1], x)


@oracle("losses.correlation", against="1 - F.cosine_similarity of centred signals", tolerance=1e-14, because=DERIVED)
def correlation_of_batches() -> Pair:
    x, y = drawn(9, 3, 20), drawn(10, 3, 20)
    centred = y - y.mean(dim=-1, keepdim=True)
    return compared(
        lambda x: losses.correlation(x, y, reduction="none"),
        lambda x: 1 - F.cosine_similarity(x - x.mean(dim=-1, keepdim=True), centred, dim=-1),
        x,
    )


@oracle("losses.spectral_l2", against="numpy.fft.rfft(norm='ortho')", **ROUNDING)
def spectral_l2_of_numpy() -> Pair:
    x, y = drawn(11, 3, 17), drawn(12, 3, 17)
    ours, theirs = (np.abs(np.fft.rfft(each.numpy(), norm="ortho")) for each in (x, y))
    return losses.spectral_l2(x, y, reduction="none"), ((ours - theirs) ** 2).mean(axis=-1)


@oracle("losses.spectral_l2", against="torch.fft.rfft(norm='ortho'), and its abs", **IN_DEPTH)
def spectral_l2_of_torch() -> Pair:
    x, y = drawn(11, 3, 17), drawn(12, 3, 17)
    return compared(
        lambda x: losses.spectral_l2(x, y),
        lambda x: ((torch.fft.rfft(x, norm="ortho").abs() - torch.fft.rfft(y, norm="ortho").abs()) ** 2).mean(),
        x,
    )


@oracle("losses.accuracy", against="sklearn.metrics.accuracy_score", tolerance=1e-7, because="a float32")
def accuracy_of_sklearn() -> Pair:
    logits, targets = drawn(13, 60, 4), fr.random.randint(fr.random.key(14), (60,), 0, 4)
    predicted, score = logits.argmax(dim=-1), sklearn.metrics.accuracy_score
    ours = [losses.accuracy(logits, targets, reduction=each) for each in ("mean", "sum")]
    padded = torch.where(torch.arange(60) < 20, -100, targets)
    ours.append(losses.accuracy(logits, padded))
    whole = [score(targets, predicted), float(score(targets, predicted, normalize=False))]
    return ours, [*whole, score(targets[20:], predicted[20:])]

"""`uncertainty` against numpy, scipy.stats.entropy, torch's own modules, and scikit-learn's scores and calibration."""

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import scipy.optimize
import scipy.special
import scipy.stats
import torch
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score, roc_curve
from torch import Tensor, nn

import funcreg as fr
from funcreg import random, tree, uncertainty
from tests.oracles import Pair, oracle

P = torch.softmax(2 * random.normal(random.key(1), (200, 5), dtype=torch.float64), dim=-1)
TARGETS = random.randint(random.key(2), 200, 0, 5)
SAMPLED = random.categorical(random.key(4), torch.log(P))  # of which P are the right probabilities
X = random.normal(random.key(3), (20, 6), dtype=torch.float64)
PARTS = (slice(100), slice(100, 200))


def numbers(values: Iterable[float]) -> Tensor:
    return torch.tensor([float(value) for value in values], dtype=torch.float64)


def summary(samples: np.ndarray) -> uncertainty.Predictive:
    """What predictions (T, N, C) say together, by numpy and scipy."""
    mean, expected = samples.mean(0), scipy.stats.entropy(samples, axis=-1).mean(0)
    total = scipy.stats.entropy(mean, axis=-1)
    each = (mean, samples.var(0), total, expected, total - expected)
    return uncertainty.Predictive(*map(torch.from_numpy, each))


@oracle(
    "uncertainty.entropy", against="scipy.stats.entropy", tolerance=1e-14, because="float64; another order of the sum"
)
def entropy() -> Pair:
    return uncertainty.entropy(P), scipy.stats.entropy(P.numpy(), axis=-1)


@oracle(
    "uncertainty.from_samples",
    against="numpy's mean and var, scipy.stats.entropy",
    tolerance=1e-14,
    because="float64; another order of the sums",
)
def from_samples() -> Pair:
    samples = P.reshape(10, 20, 5)
    return uncertainty.from_samples(samples), summary(samples.numpy())


def make() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Dropout(0.4), nn.Tanh(), nn.Linear(16, 5)).double()


@oracle(
    "uncertainty.mc_dropout",
    against="numpy and scipy, the masks given",
    tolerance=1e-12,
    because="float64; other matrix products, and chunks",
)
def mc_dropout() -> Pair:
    class Net:
        def apply(
            self, params: dict[str, Tensor], state: None, x: Tensor, *, key: Tensor, rates: float
        ) -> tuple[Tensor, None]:
            kept = random.uniform(key, tuple(x.shape)) >= rates
            return (x * kept / (1 - rates)) @ params["w"], state

    w = random.normal(random.key(5), (6, 5), dtype=torch.float64)
    key = random.key(6)
    masks = np.stack([(random.uniform(each, (20, 6)) >= 0.3).numpy() for each in random.split(key, 11)])
    theirs = scipy.special.softmax((X.numpy() * masks / 0.7) @ w.numpy(), axis=-1)
    ours = uncertainty.mc_dropout(Net(), {"w": w}, None, X, key=key, samples=11, chunk_size=4, rates=0.3)
    return ours, summary(theirs)


@oracle(
    "uncertainty.ensemble",
    against="a loop over torch's modules, scipy",
    tolerance=1e-12,
    because="float64; batched matrix products, and chunks",
)
def ensemble() -> Pair:
    model = fr.from_module(make)
    params, state = fr.model_members(model, random.key(7), 5)
    statistics = random.uniform(random.key(8), (5, 16), low=0.5, high=2.0, dtype=torch.float64)
    state = state | {"1.running_mean": statistics - 1, "1.running_var": statistics}
    theirs = []
    for member_params, member_state in zip(tree.unstack(params), tree.unstack(state), strict=True):
        with torch.no_grad():
            theirs.append(torch.softmax(fr.to_module(make, member_params, member_state)(X), dim=-1).numpy())
    return uncertainty.ensemble(model, params, state, X, chunk_size=2), summary(np.stack(theirs))


def of_numbers(means: np.ndarray, variances: np.ndarray) -> uncertainty.RegressionPredictive:
    """Means and variances (T, ...) as a mixture of Gaussians, by numpy: E[m], E[m**2 + v] - E[m]**2, and its parts."""
    total = (means**2 + variances).mean(0) - means.mean(0) ** 2
    each = (means.mean(0), total, means.var(0), variances.mean(0))
    return uncertainty.RegressionPredictive(*map(torch.from_numpy, each))


@oracle(
    "uncertainty.regression_from_samples",
    against="the moments of a mixture, by numpy",
    tolerance=1e-13,
    because="float64; numpy's difference of squares cancels",
)
def regression_from_samples() -> Pair:
    means, variances = X.reshape(5, 4, 6), X.reshape(5, 4, 6).exp()
    ours = uncertainty.regression_from_samples(means, variances)
    one = uncertainty.regression_from_samples(means, variances[0])  # broadcast
    alone = uncertainty.regression_from_samples(means)
    first = np.broadcast_to(variances[0].numpy(), means.shape)
    theirs = [of_numbers(means.numpy(), each) for each in (variances.numpy(), first, np.zeros(means.shape))]
    return [ours, one, alone], theirs


@oracle(
    "uncertainty.regression_from_samples",
    against="torch.distributions.MixtureSameFamily",
    tolerance=1e-13,
    because="float64; another order of the sums",
)
def mixture() -> Pair:
    means, variances = X.T.reshape(6, 20), X.T.reshape(6, 20).exp()
    ours = uncertainty.regression_from_samples(means, variances)
    parts = torch.distributions.Normal(means.T, variances.T.sqrt())
    weights = torch.distributions.Categorical(torch.ones(20, 6, dtype=torch.float64))
    theirs = torch.distributions.MixtureSameFamily(weights, parts)
    return (ours.mean, ours.variance), (theirs.mean, theirs.variance)


HEADS = ("sigmoid", "mean", "gaussian", "raw")


def by_numpy(outputs: np.ndarray, head: str) -> Any:
    """What outputs (T, N, 4) of a model say, read by a head."""
    if head == "raw":
        return torch.from_numpy(outputs)
    if head == "sigmoid":
        p = scipy.special.expit(outputs)
        return summary(np.stack((1 - p, p), axis=-1))
    if head == "mean":
        return of_numbers(outputs, np.zeros(outputs.shape))
    return of_numbers(outputs[..., :2], np.exp(outputs[..., 2:]))


@oracle(
    "uncertainty.mc_dropout",
    against="numpy and scipy for every other head, the masks given",
    tolerance=1e-12,
    because="float64; other matrix products, and chunks",
)
def mc_dropout_of_heads() -> Pair:
    class Net:
        def apply(
            self, params: dict[str, Tensor], state: None, x: Tensor, *, key: Tensor, rates: float
        ) -> tuple[Tensor, None]:
            return (x * (random.uniform(key, tuple(x.shape)) >= rates)) @ params["w"], state

    w, key = random.normal(random.key(5), (6, 4), dtype=torch.float64), random.key(6)
    masks = np.stack([(random.uniform(each, (20, 6)) >= 0.3).numpy() for each in random.split(key, 11)])
    outputs = (X.numpy() * masks) @ w.numpy()
    settings: dict[str, Any] = {"key": key, "samples": 11, "chunk_size": 4, "rates": 0.3}
    ours = [uncertainty.mc_dropout(Net(), {"w": w}, None, X, head=head, **settings) for head in HEADS]
    return ours, [by_numpy(outputs, head) for head in HEADS]


@oracle(
    "uncertainty.ensemble",
    against="a loop over torch's modules for every other head, numpy and scipy",
    tolerance=1e-12,
    because="float64; batched matrix products, and chunks",
)
def ensemble_of_heads() -> Pair:
    make_numbers = lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()  # noqa: E731
    model = fr.from_module(make_numbers)
    params, state = fr.model_members(model, random.key(7), 5)
    with torch.no_grad():
        outputs = [fr.to_module(make_numbers, each, {})(X).numpy() for each in tree.unstack(params)]
    ours = [uncertainty.ensemble(model, params, state, X, chunk_size=2, batch_size=7, head=head) for head in HEADS]
    return ours, [by_numpy(np.stack(outputs), head) for head in HEADS]


@oracle(
    "uncertainty.negative_log_likelihood",
    against="sklearn.metrics.log_loss",
    tolerance=1e-14,
    because="float64; another order of the sum",
)
def negative_log_likelihood() -> Pair:
    ours = torch.stack([uncertainty.negative_log_likelihood(P[part], TARGETS[part]) for part in PARTS])
    return ours, numbers(log_loss(TARGETS[part], P[part], labels=range(5)) for part in PARTS)


@oracle(
    "uncertainty.brier",
    against="sklearn.metrics.brier_score_loss, not halved",
    tolerance=1e-14,
    because="float64; another order of the sum",
)
def brier() -> Pair:
    ours = torch.stack([uncertainty.brier(P[part], TARGETS[part]) for part in PARTS])
    theirs = (brier_score_loss(TARGETS[part], P[part], labels=range(5)) for part in PARTS)
    return ours, numbers(theirs)


@oracle(
    "uncertainty.expected_calibration_error",
    against="Guo et al.'s equation 3, worked by hand",
    tolerance=1e-15,
    because="float64; a few roundings",
)
def calibration_by_hand() -> Pair:
    # Five examples of two classes. Their confidences: .95 and .85 right, .85 wrong, .65 right, .55 wrong.
    p = torch.tensor([[0.95, 0.05], [0.15, 0.85], [0.85, 0.15], [0.35, 0.65], [0.55, 0.45]], dtype=torch.float64)
    targets = torch.tensor([0, 1, 1, 1, 1])
    by_bins = {
        # (.9, 1]: |1 - .95|; (.8, .9]: 2/5 of |1/2 - .85|; (.6, .7]: |1 - .65|; (.5, .6]: |0 - .55|, each 1/5.
        10: 0.2 * 0.05 + 0.4 * 0.35 + 0.2 * 0.35 + 0.2 * 0.55,
        # (.5, 1]: accuracy 3/5, confidence 3.85/5.
        2: 3.85 / 5 - 3 / 5,
        # (.8, 1]: 3/5 of |2/3 - 2.65/3|; (.6, .8]: 1/5 of .35; (.4, .6]: 1/5 of .55.
        5: 0.6 * (2.65 - 2) / 3 + 0.2 * 0.35 + 0.2 * 0.55,
    }
    ours = torch.stack([uncertainty.expected_calibration_error(p, targets, bins=bins) for bins in by_bins])
    return ours, numbers(by_bins.values())


@oracle(
    "uncertainty.expected_calibration_error",
    against="numpy.digitize and a loop over bins",
    tolerance=1e-15,
    because="float64; another order of the sums",
)
def calibration() -> Pair:
    p, targets = P.numpy(), SAMPLED.numpy()
    confidence, right = p.max(-1), p.argmax(-1) == targets
    theirs = []
    for bins in (10, 15):
        which = np.digitize(confidence, np.linspace(0, 1, bins + 1), right=True)
        inside = [which == each for each in np.unique(which)]
        theirs.append(sum(each.mean() * abs(right[each].mean() - confidence[each].mean()) for each in inside))
    ours = torch.stack([uncertainty.expected_calibration_error(P, SAMPLED, bins=bins) for bins in (10, 15)])
    return ours, numbers(theirs)


def in_bins(forecast: np.ndarray, outcome: np.ndarray, bins: int, strategy: str) -> float:
    """The error of one column, by numpy's quantiles and a loop over bins."""
    edges = (
        np.quantile(forecast, np.linspace(0, 1, bins + 1)) if strategy == "quantile" else np.linspace(0, 1, bins + 1)
    )
    which = np.searchsorted(edges[1:-1], forecast)
    inside = [which == each for each in np.unique(which)]
    return sum(each.mean() * abs(outcome[each].mean() - forecast[each].mean()) for each in inside)


STRATEGIES = [(bins, strategy) for bins in (1, 7, 15) for strategy in ("uniform", "quantile")]


@oracle(
    "uncertainty.expected_calibration_error",
    against="numpy.quantile and a loop over bins, with ties",
    tolerance=1e-15,
    because="float64; another order of the sums",
)
def adaptive_calibration() -> Pair:
    coarse = torch.floor(P * 20) / 20
    coarse[:, 0] += 1 - coarse.sum(-1)
    ours, theirs = [], []
    for p in (P[:150], coarse[:150]):
        ours.append(uncertainty.expected_calibration_error(p, SAMPLED[:150], strategy="quantile"))
        right = (p.argmax(-1) == SAMPLED[:150]).numpy()
        theirs.append(in_bins(p.numpy().max(-1), right, 15, "quantile"))
    return torch.stack(ours), numbers(theirs)


@oracle(
    "uncertainty.classwise_calibration_error",
    against="numpy.quantile and loops over classes and bins",
    tolerance=1e-15,
    because="float64; another order of the sums",
)
def classwise_calibration() -> Pair:
    ours, theirs = [], []
    for how in STRATEGIES:
        ours.append(uncertainty.classwise_calibration_error(P, SAMPLED, bins=how[0], strategy=how[1]))
        each = [in_bins(p.numpy(), SAMPLED.eq(c).numpy(), *how) for c, p in enumerate(P.unbind(-1))]
        theirs.append(np.mean(each))
    return torch.stack(ours), numbers(theirs)


@oracle(
    "uncertainty.reliability_curve",
    against="sklearn.calibration.calibration_curve",
    tolerance=1e-14,
    because="float64; another order of the sums",
)
def reliability() -> Pair:
    ours, theirs = [], []
    confidence, predicted = P.max(-1)
    for bins, strategy in STRATEGIES:
        curve = uncertainty.reliability_curve(P, SAMPLED, bins=bins, strategy=strategy)
        some = curve.count > 0
        ours.append((curve.accuracy[some], curve.confidence[some], curve.count.sum()))
        right = (predicted == SAMPLED).numpy()
        theirs.append((*calibration_curve(right, confidence.numpy(), n_bins=bins, strategy=strategy), len(P)))
    return ours, theirs


RANKED = [  # scores and targets: without ties, with many, with infinities
    (SAMPLED.double() + random.normal(random.key(9), 200, dtype=torch.float64), TARGETS % 2),
    (torch.round(P[:, 0] * 5), SAMPLED == 0),
    (torch.where(P[:, 1] > 0.5, torch.inf, torch.log(torch.round(P[:, 1] * 9))), SAMPLED == 1),
]


@oracle(
    "uncertainty.auroc",
    against="sklearn.metrics.roc_auc_score",
    tolerance=1e-14,
    because="float64; pairs are counted, scikit-learn adds areas",
)
def auroc() -> Pair:
    ours = torch.stack([uncertainty.auroc(*each) for each in RANKED])
    # Infinities are in the same order when all are ranks.
    return ours, numbers(roc_auc_score(y, scipy.stats.rankdata(scores)) for scores, y in RANKED)


@oracle(
    "uncertainty.average_precision",
    against="sklearn.metrics.average_precision_score",
    tolerance=1e-14,
    because="float64; another order of the sum",
)
def average_precision() -> Pair:
    ours = torch.stack([uncertainty.average_precision(*each) for each in RANKED])
    return ours, numbers(average_precision_score(y, scipy.stats.rankdata(scores)) for scores, y in RANKED)


@oracle(
    "uncertainty.false_positive_rate",
    against="sklearn.metrics.roc_curve",
    tolerance=0,
    because="one division",
)
def false_positive_rate() -> Pair:
    recalls = (0.0, 0.3, 0.5, 0.8, 0.95, 1.0)
    ours, theirs = [], []
    for scores, y in RANKED:
        ours.append(torch.stack([uncertainty.false_positive_rate(scores, y, recall) for recall in recalls]))
        false, true, _ = roc_curve(y, scipy.stats.rankdata(scores), drop_intermediate=False)
        theirs.append(numbers(false[np.argmax(true >= recall)] for recall in recalls))
    return ours, theirs


@oracle(
    "uncertainty.fit_temperature",
    against="scipy.optimize.minimize_scalar",
    tolerance=1e-7,
    because="scipy looks at values, which are flat to rounding within sqrt(epsilon) of the minimum",
)
def fit_temperature() -> Pair:
    def best(logits: Tensor) -> float:
        def loss(inverse: float) -> float:
            return log_loss(SAMPLED, scipy.special.softmax(inverse * logits.numpy(), axis=-1))

        found: Any = scipy.optimize.minimize_scalar(loss, bounds=(0.01, 10), method="bounded", options={"xatol": 1e-12})
        return found.x

    logits = [sureness * torch.log(P) for sureness in (0.3, 1.0, 4.0, 40.0)]
    return 1 / torch.stack([uncertainty.fit_temperature(each, SAMPLED) for each in logits]), numbers(map(best, logits))


@oracle(
    "uncertainty.fit_temperature",
    against="sklearn.calibration.CalibratedClassifierCV(method='temperature')",
    tolerance=1e-6,
    because="probabilities; scikit-learn minimises by values too",
)
def temperature_of_a_classifier() -> Pair:
    x, y = load_digits(return_X_y=True)
    # Trained without regularization on few examples: far too sure.
    classifier = LogisticRegression(C=1e4, max_iter=50).fit(x[:300] / 16, y[:300])
    calibrated = CalibratedClassifierCV(FrozenEstimator(classifier), method="temperature")
    calibrated.fit(x[300:900] / 16, y[300:900])
    held_out, rest = (torch.from_numpy(classifier.decision_function(part / 16)) for part in (x[300:900], x[900:]))
    temperature = uncertainty.fit_temperature(held_out, torch.from_numpy(y[300:900]))
    return torch.softmax(rest / temperature, dim=-1), calibrated.predict_proba(x[900:] / 16)


def vector_scaled(logits: np.ndarray, at: np.ndarray) -> np.ndarray:
    scale, bias = at.reshape(2, -1)
    return scipy.special.softmax(scale * logits + bias, axis=-1)


def best_vector_scaling(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Scale and bias, (2, C), by BFGS on the log-likelihood and its slope."""
    truth = np.eye(logits.shape[1])[targets]

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        p = vector_scaled(logits, at)
        apart = (p - truth) / len(p)
        return -np.log((p * truth).sum(-1)).mean(), np.concatenate(((apart * logits).sum(0), apart.sum(0)))

    start = np.repeat([1.0, 0.0], logits.shape[1])
    found: Any = scipy.optimize.minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": 2000})
    return found.x.reshape(2, -1)


@oracle(
    "uncertainty.fit_vector_scaling",
    against="scipy.optimize.minimize(method='BFGS')",
    tolerance=1e-7,
    because="BFGS stops where the slope is 1e-10 or rounding",
)
def fit_vector_scaling() -> Pair:
    ours, theirs = [], []
    for logits, targets in ((torch.log(P), SAMPLED), (torch.log(P[:, :3]), SAMPLED % 3)):
        scale, bias = best_vector_scaling(logits.numpy(), targets.numpy())
        ours.append(tuple(uncertainty.fit_vector_scaling(logits, targets)))
        theirs.append((scale, bias - bias.mean()))
    return ours, theirs


@oracle(
    "uncertainty.fit_vector_scaling",
    against="sklearn.linear_model.LogisticRegression(penalty=None) on log odds of two classes",
    tolerance=1e-6,
    because="probabilities; scikit-learn stops at a slope of 1e-10",
)
def vector_scaling_of_two_classes() -> Pair:
    """Of two classes, one of whose logits is 0: the other's scale and the difference of the biases are a regression."""
    logit = torch.log(P[:, 1] / P[:, 0])
    targets = (SAMPLED == 1).long()
    logits = torch.stack((torch.zeros_like(logit), logit), dim=-1)
    scaling = uncertainty.fit_vector_scaling(logits, targets)
    ours = torch.softmax(uncertainty.apply_vector_scaling(logits, scaling), dim=-1)
    regression = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit[:, None].numpy(), targets.numpy())
    return ours, regression.predict_proba(logit[:, None].numpy())


@oracle(
    "uncertainty.apply_vector_scaling",
    against="numpy",
    tolerance=0,
    because="a product and a sum",
)
def apply_vector_scaling() -> Pair:
    scale, bias = (random.normal(random.key(each), (5,), dtype=torch.float64) for each in (20, 21))
    ours = uncertainty.apply_vector_scaling(torch.log(P), uncertainty.VectorScaling(scale, bias))
    return ours, torch.log(P).numpy() * scale.numpy() + bias.numpy()


@oracle(
    "uncertainty.conformal_quantile",
    against="the definition in fractions: the smallest score with so many at or below",
    tolerance=0,
    because="one of the scores",
)
def conformal_quantile() -> Pair:
    scores = uncertainty.lac_scores(P)
    right = scores[torch.arange(200), SAMPLED].tolist()
    ours, theirs = [], []
    for n in (9, 19, 99, 200):
        for alpha in ("0.5", "0.3", "0.1"):
            ours.append(uncertainty.conformal_quantile(scores[:n], float(alpha), targets=SAMPLED[:n]))
            enough = (n + 1) * (1 - Fraction(alpha))
            theirs.append(min(s for s in right[:n] if sum(other <= s for other in right[:n]) >= enough))
    return torch.stack(ours), numbers(theirs)


@oracle("uncertainty.lac_scores", against="numpy", tolerance=0, because="one difference")
def lac_scores() -> Pair:
    return uncertainty.lac_scores(P), 1 - P.numpy()


@oracle(
    "uncertainty.aps_scores",
    against="Romano et al.'s equation 5, a loop over examples and classes, the draws given",
    tolerance=1e-14,
    because="float64; another order of the sum",
)
def aps_scores() -> Pair:
    key = random.key(22)
    u = random.uniform(key, (200,), dtype=torch.float64).numpy()
    ours = (uncertainty.aps_scores(P, key=key), uncertainty.aps_scores(P, key=None))
    theirs = tuple(
        np.array(
            [[row[row > own].sum() + part * own for own in row] for row, part in zip(P.numpy(), parts, strict=True)]
        )
        for parts in (u, np.ones(200))
    )
    return ours, theirs


@oracle("uncertainty.prediction_sets", against="numpy", tolerance=0, because="a comparison")
def prediction_sets() -> Pair:
    return uncertainty.prediction_sets(uncertainty.lac_scores(P), 0.7), (1 - P.numpy() <= 0.7).astype(float)


@oracle("uncertainty.interval_scores", against="numpy", tolerance=0, because="the same operations")
def interval_scores() -> Pair:
    lower, upper, y = (column.numpy() for column in (X[:, 0] - 1, X[:, 1] + 1, X[:, 2]))
    scale = np.exp(X[:, 3].numpy())
    one = uncertainty.interval_scores(X[:, 0], X[:, 2], scale=torch.exp(X[:, 3]))
    two = uncertainty.interval_scores((X[:, 0] - 1, X[:, 1] + 1), X[:, 2])
    return (one, two), (np.abs(y - X[:, 0].numpy()) / scale, np.maximum(lower - y, y - upper))


@oracle("uncertainty.prediction_intervals", against="numpy", tolerance=0, because="the same operations")
def prediction_intervals() -> Pair:
    middle, scale = X[:, 0].numpy(), np.exp(X[:, 3].numpy())
    ours = uncertainty.prediction_intervals(X[:, 0], 1.5, scale=torch.exp(X[:, 3]))
    return tuple(ours), (middle - 1.5 * scale, middle + 1.5 * scale)


def small(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, outputs)).double()


def divergence(head: str, before: Tensor, after: Tensor) -> Tensor:
    """How far outputs have moved, in nats, summed over the inputs; its curvature is the Fisher information."""
    of = torch.distributions
    makers: dict[str, Any] = {
        "softmax": lambda z: of.Categorical(logits=z),
        "sigmoid": lambda z: of.Bernoulli(logits=z),
        "mean": lambda m: of.Normal(m, 0.3**0.5),
        "gaussian": lambda o: of.Normal(o[:, :2], (o[:, 2:] / 2).exp()),
    }
    return of.kl_divergence(makers[head](before), makers[head](after)).sum()


@oracle(
    "uncertainty.laplace",
    against="torch.func.hessian of torch.distributions' kl_divergence, for each head",
    tolerance=1e-11,
    because="float64; sums of up to some hundred in another order",
)
def laplace() -> Pair:
    """Of the last layer, and of a whole network."""
    model, ours, theirs = fr.from_module(lambda: small(4)), [], []
    params, state = model.init(random.key(1))
    for mask in (lambda name, leaf: name.startswith("2."), lambda name, leaf: name != "2.bias"):
        chosen, rest = tree.partition(params, mask)
        flat = torch.cat([leaf.flatten() for leaf in tree.leaves(chosen)])

        def outputs(flat: Tensor, chosen: Any = chosen, rest: Any = rest) -> Tensor:
            each = iter(flat.split([leaf.numel() for leaf in tree.leaves(chosen)]))
            moved = tree.map(lambda leaf: next(each).reshape(leaf.shape), chosen)
            return model.apply({**moved, **rest}, state, X)[0]

        for head in ("softmax", "sigmoid", "mean", "gaussian"):
            how: dict[str, Any] = {"noise_variance": 0.3} if head == "mean" else {}
            found = uncertainty.laplace(
                model, params, state, X, mask=mask, prior_precision=2.5, head=head, batch_size=7, **how
            )
            ours.append(found.factor @ found.factor.T)
            curvature = torch.func.hessian(lambda new, h=head, f=flat, o=outputs: divergence(h, o(f), o(new)))(flat)
            theirs.append(curvature + 2.5 * torch.eye(len(flat), dtype=torch.float64))
    return ours, theirs


@oracle(
    "uncertainty.laplace",
    against="sklearn.gaussian_process with the last layer's features as its kernel",
    tolerance=1e-9,
    because="float64; an inverse of the inputs' number instead of the parameters'",
)
def laplace_of_a_regression() -> Pair:
    """Trained to its optimum, it is the exact posterior: mean and variance of a Gaussian process of that kernel."""
    model, variance, precision = fr.from_module(lambda: small(1)), 0.2, 1.7
    params, state = model.init(random.key(2))
    y = random.normal(random.key(3), (20,), dtype=torch.float64)

    def features(x: Tensor) -> Tensor:
        hidden = torch.tanh(nn.functional.linear(x, params["0.weight"], params["0.bias"]))
        return torch.cat((torch.ones(len(x), 1, dtype=torch.float64), hidden), dim=1)

    phi, new = features(X), 2 * random.normal(random.key(4), (9, 6), dtype=torch.float64)
    ridge = torch.linalg.solve(phi.T @ phi + variance * precision * torch.eye(5).double(), phi.T @ y)
    params = {**params, "2.bias": ridge[:1], "2.weight": ridge[None, 1:]}
    found = uncertainty.laplace(model, params, state, X, mask=lambda name, _: name.startswith("2."),
                                prior_precision=precision, head="mean", noise_variance=variance)  # fmt: skip
    spread = torch.linalg.solve_triangular(found.factor, features(new).T, upper=False)
    ours = (model.apply(params, state, new)[0][:, 0], (spread**2).sum(0))
    kernel = ConstantKernel(1 / precision, "fixed") * DotProduct(1.0, "fixed")
    process: Any = GaussianProcessRegressor(kernel, alpha=variance, optimizer=None)  # pyright: ignore (None is allowed)
    # The kernel's own constant 1 is the bias' feature.
    process.fit(phi[:, 1:].numpy(), y.numpy())
    mean, deviation = process.predict(features(new)[:, 1:].numpy(), return_std=True)
    return ours, (mean, deviation**2)


@oracle(
    "uncertainty.sample_laplace",
    against="numpy's inverse of the precision's root, the normal numbers given",
    tolerance=1e-12,
    because="float64; solved, not inverted",
)
def sample_laplace() -> Pair:
    w, b = (random.normal(random.key(seed), shape, dtype=torch.float64) for seed, shape in ((1, (2, 3)), (2, 2)))
    factor = torch.linalg.cholesky(P[:6].T @ P[:6] + torch.eye(5).double())
    factor = torch.block_diag(factor, torch.tensor([[3.0]]).double())
    state = uncertainty.LaplaceState({"w": w}, {"b": b}, factor)
    keys = random.split(random.key(3), 4)
    ours = torch.func.vmap(lambda key: uncertainty.sample_laplace(state, key=key))(keys)
    z = np.stack([random.normal(key, (6, 1), dtype=torch.float64).numpy()[:, 0] for key in keys])
    moved = w.numpy() + (z @ np.linalg.inv(factor.numpy())).reshape(4, 2, 3)
    return ours, {"w": moved, "b": b.numpy()[None].repeat(4, 0)}

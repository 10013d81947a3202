"""Good calls of `uncertainty`."""

import torch
from torch import Tensor, nn

import funcreg as fr
from funcreg import uncertainty
from tests.bad_arguments.call import CLASSES, KEY, SOFT, Call, X, call

MODEL = fr.from_module(lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Linear(3, 3)))
PARAMS, STATE = MODEL.init(KEY)
MEMBERS = fr.model_members(MODEL, KEY, 2)


def last(name: str, leaf: Tensor) -> bool:
    return name.startswith("2.")


POSTERIOR = uncertainty.laplace(MODEL, PARAMS, STATE, X, mask=last, prior_precision=1.0)

CALLS: list[Call] = [
    call("uncertainty.mc_dropout", uncertainty.mc_dropout, model=MODEL, params=PARAMS, state=STATE, x=X, key=KEY,
         head="softmax", samples=3, rates=0.3, chunk_size="auto", memory_budget=10**9, jit=False),
    call("uncertainty.ensemble", uncertainty.ensemble, model=MODEL, params=MEMBERS[0], state=MEMBERS[1], x=X,
         head="softmax", chunk_size="auto", memory_budget=10**9, jit=False),
    call("uncertainty.fit_temperature", uncertainty.fit_temperature, logits=3 * X, targets=CLASSES,
         ignore_index=-100, steps=3),
    call("uncertainty.from_samples", uncertainty.from_samples, probabilities=SOFT.expand(2, 4, 3)),
    call("uncertainty.laplace", uncertainty.laplace, model=MODEL, params=PARAMS, state=STATE, x=X,
         mask=last, prior_precision=0.5, head="mean", noise_variance=0.5, batch_size=3),
    call("uncertainty.sample_laplace", uncertainty.sample_laplace, state=POSTERIOR, key=KEY),
    call("uncertainty.regression_from_samples", uncertainty.regression_from_samples, means=X, variances=SOFT),
    call("uncertainty.entropy", uncertainty.entropy, probabilities=SOFT),
    call("uncertainty.brier", uncertainty.brier, probabilities=SOFT, targets=CLASSES,
         ignore_index=-100, reduction="mean"),
    call("uncertainty.negative_log_likelihood", uncertainty.negative_log_likelihood, probabilities=SOFT,
         targets=CLASSES, ignore_index=-100, reduction="mean"),
    call("uncertainty.expected_calibration_error", uncertainty.expected_calibration_error, probabilities=SOFT,
         targets=CLASSES, bins=5, strategy="uniform", ignore_index=-100),
    call("uncertainty.classwise_calibration_error", uncertainty.classwise_calibration_error, probabilities=SOFT,
         targets=CLASSES, bins=5, strategy="uniform", ignore_index=-100),
    call("uncertainty.reliability_curve", uncertainty.reliability_curve, probabilities=SOFT, targets=CLASSES, bins=1,
         strategy="uniform", ignore_index=-100),
    call("uncertainty.auroc", uncertainty.auroc, scores=X[:, 0], targets=CLASSES % 2, ignore_index=-100),
    call("uncertainty.average_precision", uncertainty.average_precision, scores=X[:, 0], targets=CLASSES % 2,
         ignore_index=-100),
    call("uncertainty.false_positive_rate", uncertainty.false_positive_rate, scores=X[:, 0], targets=CLASSES % 2,
         recall=0.95, ignore_index=-100),
    call("uncertainty.fit_vector_scaling", uncertainty.fit_vector_scaling, logits=3 * X, targets=CLASSES,
         ignore_index=-100, steps=3),
    call("uncertainty.apply_vector_scaling", uncertainty.apply_vector_scaling, logits=X,
         scaling=uncertainty.VectorScaling(torch.ones(3), torch.zeros(3))),
    call("uncertainty.conformal_quantile", uncertainty.conformal_quantile, scores=SOFT, alpha=0.3, targets=CLASSES,
         ignore_index=-100),
    call("uncertainty.lac_scores", uncertainty.lac_scores, probabilities=SOFT),
    call("uncertainty.aps_scores", uncertainty.aps_scores, probabilities=SOFT, key=KEY),
    call("uncertainty.prediction_sets", uncertainty.prediction_sets, scores=SOFT, threshold=0.5),
    call("uncertainty.interval_scores", uncertainty.interval_scores, predictions=X[:, 0], targets=X[:, 1], scale=0.5),
    call("uncertainty.prediction_intervals", uncertainty.prediction_intervals, predictions=X[:, 0],
         threshold=torch.tensor(0.5), scale=0.5),
]  # fmt: skip

"""Cases of `uncertainty`."""

from typing import Any

import torch
from torch import Tensor

from funcreg import noise, uncertainty
from tests.contract.case import CLASSES, Case, X, drawn


class _Mask:
    """A model by hand, for what takes one."""

    def apply(
        self, params: Any, state: Any, x: Tensor, *, key: Tensor | None = None, rates: Any = None
    ) -> tuple[Tensor, Any]:
        kept = x if key is None else noise.dropout(x, 0.5 if rates is None else rates, key=key)
        return kept @ params["w"], state


def _posterior(params: Any, x: Tensor, prior_precision: Any) -> uncertainty.LaplaceState:
    return uncertainty.laplace(
        _Mask(), params, {}, x, mask=lambda name, _: name == "w", prior_precision=prior_precision, batch_size=4
    )


PROBABILITIES = {"probabilities": torch.softmax(drawn(13, 6, 4), dim=-1), "targets": CLASSES}
RANKED = {"scores": torch.round(4 * drawn(212, 12)), "targets": torch.tensor([0, 1, 1, 0, 0, 1] * 2)}

HEADS: list[Any] = [("sigmoid", None), ("gaussian", 4), ("raw", None)]  # and the size of a batch

CASES = [
    Case(
        "uncertainty.mc_dropout",
        lambda params, x, rates, key: uncertainty.mc_dropout(
            _Mask(), params, {}, x, key=key, samples=5, chunk_size=3, rates=rates
        ),
        {"params": {"w": drawn(28, 5, 4)}, **X},
        {"rates": (0.1, 0.3, 0.9)},
        keyed=True,
        at_least_float32=True,
    ),
    Case(
        "uncertainty.ensemble",
        lambda params, x: uncertainty.ensemble(_Mask(), params, {}, x, chunk_size=2),
        {"params": {"w": drawn(210, 3, 5, 4)}, **X},
        at_least_float32=True,
    ),
    *(
        Case(
            "uncertainty.mc_dropout",
            lambda params, x, rates, key, head=head, batch_size=batch_size: uncertainty.mc_dropout(
                _Mask(), params, {}, x, key=key, head=head, samples=3, batch_size=batch_size, rates=rates
            ),
            {"params": {"w": drawn(28, 5, 2)}, **X},
            {"rates": (0.1, 0.3, 0.9)},
            keyed=True,
            variant=head,
            at_least_float32=head != "raw",
        )
        for head, batch_size in HEADS
    ),
    Case(
        "uncertainty.ensemble",
        lambda params, x: uncertainty.ensemble(_Mask(), params, {}, x, head="mean"),
        {"params": {"w": drawn(210, 3, 5, 4)}, **X},
        variant="mean",
        at_least_float32=True,
    ),
    Case(
        "uncertainty.regression_from_samples",
        lambda means, variances: uncertainty.regression_from_samples(means, variances.exp()),
        {"means": drawn(212, 5, 6, 2), "variances": drawn(213, 5, 6, 2)},
        at_least_float32=True,
    ),
    Case(
        "uncertainty.laplace",
        lambda params, x, prior_precision: _posterior(params, x, prior_precision).factor,
        {"params": {"w": drawn(214, 5, 3), "b": drawn(215, 3)}, **X},
        {"prior_precision": (0.1, 1.0, 9.0)},
        at_least_float32=True,
        within="uncertainty.sample_laplace",
    ),
    Case(
        "uncertainty.sample_laplace",
        lambda params, x, prior_precision, key: uncertainty.sample_laplace(
            _posterior(params, x, prior_precision), key=key
        ),
        {"params": {"w": drawn(214, 5, 3), "b": drawn(215, 3)}, **X},
        {"prior_precision": (0.1, 1.0, 9.0)},
        keyed=True,
    ),
    Case(
        "uncertainty.fit_temperature",
        lambda logits, targets: uncertainty.fit_temperature(logits, targets, steps=2),
        {"logits": drawn(211, 6, 4), "targets": CLASSES},
        at_least_float32=True,
        within="uncertainty.fit_vector_scaling",
    ),
    Case(
        "uncertainty.from_samples",
        lambda probabilities: uncertainty.from_samples(probabilities),
        {"probabilities": torch.softmax(drawn(29, 5, 6, 4), dim=-1)},
        at_least_float32=True,
    ),
    Case(
        "uncertainty.entropy",
        lambda probabilities: uncertainty.entropy(probabilities),
        {"probabilities": torch.tensor([[1.0, 0.0], [0.3, 0.7]], dtype=torch.float64)},
        at_least_float32=True,
    ),
    *(
        Case(f"uncertainty.{score.__name__}", lambda probabilities, targets, f=score: f(probabilities, targets),
             PROBABILITIES, at_least_float32=True)
        for score in (uncertainty.negative_log_likelihood, uncertainty.brier)
    ),
    *(
        Case(f"uncertainty.{score.__name__}",
             lambda probabilities, targets, f=score, how=strategy: f(probabilities, targets, bins=3, strategy=how),
             PROBABILITIES, variant=strategy, at_least_float32=True, within=within)
        for score, strategy, within in (  # bins are made alike for both
            (uncertainty.expected_calibration_error, "uniform", ""),
            (uncertainty.expected_calibration_error, "quantile", "uncertainty.expected_calibration_error[uniform]"),
            (uncertainty.classwise_calibration_error, "uniform", "uncertainty.classwise_calibration_error[quantile]"),
            (uncertainty.classwise_calibration_error, "quantile", ""),
        )
    ),
    Case(
        "uncertainty.reliability_curve",  # no bin is empty
        lambda probabilities, targets: uncertainty.reliability_curve(
            probabilities, targets, bins=2, strategy="quantile"
        ),
        PROBABILITIES,
        at_least_float32=True,
        has_slope=False,
    ),
    *(
        Case(f"uncertainty.{score.__name__}", lambda scores, targets, f=score: f(scores, targets), RANKED,
             at_least_float32=True, has_slope=False)
        for score in (uncertainty.auroc, uncertainty.average_precision)
    ),
    Case(
        "uncertainty.false_positive_rate",
        lambda scores, targets, recall: uncertainty.false_positive_rate(scores, targets, recall),
        RANKED,
        {"recall": (0.0, 0.6, 0.95)},
        at_least_float32=True,
        has_slope=False,
    ),
    Case(
        "uncertainty.fit_vector_scaling",
        lambda logits, targets: uncertainty.fit_vector_scaling(logits, targets, steps=1),
        {"logits": drawn(211, 6, 4), "targets": CLASSES},
        at_least_float32=True,
    ),
    Case(
        "uncertainty.fit_vector_scaling",
        lambda logits, targets: uncertainty.fit_vector_scaling(logits, targets, steps=1),
        {"logits": drawn(213, 6, 4), "targets": CLASSES},
        at_least_float32=True,
        variant="from the largest temperature",
        within="uncertainty.fit_vector_scaling",
    ),
    Case(
        "uncertainty.apply_vector_scaling",
        lambda logits, scaling: uncertainty.apply_vector_scaling(logits, scaling),
        {"logits": drawn(214, 6, 4), "scaling": uncertainty.VectorScaling(drawn(215, 4), drawn(216, 4))},
        at_least_float32=True,
    ),
    Case(
        "uncertainty.conformal_quantile",
        lambda scores, alpha: uncertainty.conformal_quantile(scores, alpha),
        {"scores": drawn(217, 24)},
        {"alpha": (0.05, 0.1, 0.5)},
        at_least_float32=True,
    ),
    Case(
        "uncertainty.conformal_quantile",
        lambda scores, targets: uncertainty.conformal_quantile(scores, 0.3, targets=targets),
        {"scores": drawn(218, 6, 4), "targets": CLASSES},
        variant="of classes",
        at_least_float32=True,
    ),
    Case(
        "uncertainty.lac_scores",
        lambda probabilities: uncertainty.lac_scores(probabilities),
        {"probabilities": PROBABILITIES["probabilities"]},
        at_least_float32=True,
    ),
    Case(
        "uncertainty.aps_scores",
        lambda probabilities, key: uncertainty.aps_scores(probabilities, key=key),
        {"probabilities": PROBABILITIES["probabilities"]},
        keyed=True,
        at_least_float32=True,
    ),
    Case(
        "uncertainty.aps_scores",
        lambda probabilities: uncertainty.aps_scores(probabilities, key=None),
        {"probabilities": PROBABILITIES["probabilities"]},
        variant="deterministic",
        at_least_float32=True,
    ),
    Case(
        "uncertainty.prediction_sets",
        lambda scores, threshold: uncertainty.prediction_sets(scores, threshold),
        {"scores": drawn(219, 6, 4)},
        {"threshold": (-1.0, 0.1, 1.0)},
        fixed_dtype=True,
        has_slope=False,
    ),
    Case(
        "uncertainty.interval_scores",
        lambda lower, upper, targets, scale: uncertainty.interval_scores((lower, upper), targets, scale=scale),
        {"lower": drawn(220, 6) - 1, "upper": drawn(221, 6) + 1, "targets": drawn(222, 6)},
        {"scale": (0.5, 1.0, 2.0)},
        at_least_float32=True,
    ),
    Case(
        "uncertainty.prediction_intervals",
        lambda predictions, threshold, scale: uncertainty.prediction_intervals(predictions, threshold, scale=scale),
        {"predictions": drawn(223, 6)},
        {"threshold": (-0.1, 0.5, 1.0), "scale": (0.5, 1.0, 2.0)},
        at_least_float32=True,
    ),
]  # fmt: skip

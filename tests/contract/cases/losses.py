"""Cases of `losses`."""

import torch

from funcreg import losses
from tests.contract.case import CLASSES, Case, drawn

LOGITS = {"logits": drawn(9, 6, 4), "targets": CLASSES}

SOFT = {"logits": drawn(9, 6, 4), "targets": torch.softmax(drawn(10, 6, 4), dim=-1)}

SIGNALS = {"predictions": drawn(11, 3, 8), "targets": drawn(12, 3, 8)}

CASES = [
    *(
        Case(
            "losses.cross_entropy",
            lambda logits, targets, weight, smoothing: losses.cross_entropy(
                logits, targets, smoothing=smoothing, weight=weight.exp()
            ),
            {**inputs, "weight": drawn(19, 4)},
            {"smoothing": (0.0, 0.1, 1.0)},
            variant=variant,
            at_least_float32=True,
        )
        for variant, inputs in (("integers", LOGITS), ("soft", SOFT))
    ),
    Case(
        "losses.binary_cross_entropy",
        lambda logits, targets, smoothing: losses.binary_cross_entropy(logits, targets, smoothing=smoothing),
        SOFT,
        {"smoothing": (0.0, 0.1, 1.0)},
        at_least_float32=True,
    ),
    *(
        Case(f"losses.{function.__name__}", lambda predictions, targets, f=function: f(predictions, targets),
             SIGNALS, at_least_float32=True)
        for function in (losses.mse, losses.mae, losses.correlation, losses.spectral_l2)
    ),
    Case("losses.kl_divergence", losses.kl_divergence, {"logits": drawn(9, 6, 4), "target_logits": drawn(10, 6, 4)},
         at_least_float32=True),
    Case(
        "losses.gaussian_nll",
        lambda predictions, targets, min_variance: losses.gaussian_nll(
            predictions, targets, min_variance=min_variance, mask=targets > -1
        ),
        {"predictions": drawn(110, 6, 3, 4), "targets": drawn(111, 6, 3, 2)},
        {"min_variance": (1e-6, 0.1, 2.0)},
        at_least_float32=True,
    ),
    Case("losses.accuracy", losses.accuracy, LOGITS, fixed_dtype=True, has_slope=False),
]  # fmt: skip

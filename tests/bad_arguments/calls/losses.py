"""Good calls of `losses`."""

from funcreg import losses
from tests.bad_arguments.call import CLASSES, SOFT, Call, X, call

SOME = (CLASSES < 2).unsqueeze(1).repeat(1, 3)

CALLS: list[Call] = [
    call("losses.accuracy", losses.accuracy, logits=X, targets=CLASSES, ignore_index=-100, reduction="mean"),
    call("losses.cross_entropy", losses.cross_entropy, logits=X, targets=CLASSES, smoothing=0.1, weight=SOFT[0],
         ignore_index=-100, reduction="mean"),
    call("losses.cross_entropy of shares", losses.cross_entropy, logits=X, targets=SOFT, smoothing=0.1,
         weight=SOFT[0], ignore_index=-100, reduction="mean"),
    call("losses.binary_cross_entropy", losses.binary_cross_entropy, logits=X, targets=SOFT, smoothing=0.1,
         weight=SOFT[0], reduction="mean"),
    call("losses.kl_divergence", losses.kl_divergence, logits=X, target_logits=X + 1, reduction="mean"),
    *(
        call(f"losses.{loss.__name__}", loss, predictions=X, targets=SOFT, mask=SOME, reduction="mean")
        for loss in (losses.mse, losses.mae)
    ),
    *(
        call(f"losses.{loss.__name__}", loss, predictions=X, targets=SOFT, reduction="mean")
        for loss in (losses.correlation, losses.spectral_l2)
    ),
    call("losses.gaussian_nll", losses.gaussian_nll, predictions=X.repeat(1, 2), targets=SOFT, min_variance=1e-6,
         mask=SOME, reduction="mean"),
]  # fmt: skip

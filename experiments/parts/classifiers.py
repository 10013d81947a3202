"""What classifiers are trained by and judged by: cross-entropy, accuracy."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

import funcreg as fr


def loss_of(model: fr.Model) -> Callable[..., Any]:
    """Cross-entropy in training mode, (params, state, batch, *, key, hparams), for `fr.train.make_step`.

    Where hparams has a `rate` it is that of all noise layers, and `smoothing` that of the targets.
    """

    def loss_fn(params: Any, state: Any, batch: fr.train.Batch, *, key: Tensor, hparams: Any) -> Any:
        given = hparams or {}
        logits, state = model.apply(params, state, batch.x, key=key, train=True, rates=given.get("rate"))
        loss = fr.losses.cross_entropy(logits, batch.y, smoothing=given.get("smoothing", 0.0))
        return loss, (state, {"accuracy": fr.losses.accuracy(logits, batch.y)})

    return loss_fn


def scores_of(model: fr.Model, prefix: str = "test") -> Callable[[Any, Any, fr.train.Batch], dict[str, Tensor]]:
    """Loss and accuracy of each sample without noise, for `fr.train.make_evaluate`."""

    def scores(params: Any, state: Any, batch: fr.train.Batch) -> dict[str, Tensor]:
        logits, _ = model.apply(params, state, batch.x)
        return {
            f"{prefix}_loss": fr.losses.cross_entropy(logits, batch.y, reduction="none"),
            f"{prefix}_accuracy": fr.losses.accuracy(logits, batch.y, reduction="none"),
        }

    return scores

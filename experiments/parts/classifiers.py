"""What classifiers are trained by and judged by: cross-entropy, accuracy."""

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

import funcreg as fr

from ..data import Images
from ..harness.context import Context


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


class MemberSettings(Protocol):
    """How each member is trained."""

    @property
    def steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...


def train_members(
    model: fr.Model,
    images: Images,
    settings: MemberSettings,
    context: Context,
    *,
    members: int,
    init_key: Tensor,
    key: Tensor,
    jit: bool = False,
) -> fr.train.FitResult:
    """All members in one fit by Adam, on the same batches: each has its own first weights and its own noise."""
    start_key, fit_key = fr.random.split(key)
    optimizer = fr.optim.adam(settings.learning_rate)
    params, state = fr.model_members(model, init_key, members)
    return context.fit(
        fr.train.make_step(loss_of(model), optimizer),
        fr.train.init(params, state, optimizer, key=start_key, members=members),
        fr.train.Batch(images.x, images.y),
        key=fit_key,
        epochs=max(1, settings.steps * settings.batch_size // len(images.x)),
        batch_size=settings.batch_size,
        members=members,
        jit=jit,
    )

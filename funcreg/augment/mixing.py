"""Images mixed with one another, and their targets by the same shares."""

import torch
from torch import Tensor

from .. import _checks, random
from . import core, crops
from .core import Number


def mixup(images: Tensor, targets: Tensor, alpha: Number, *, key: Tensor) -> tuple[Tensor, Tensor]:
    """Mix each image with another: `share * x + (1 - share) * x[partner]`, and the targets alike.

    The share of each image is drawn from Beta(alpha, alpha). Its partner is the image a number of
    places further on, drawn once for the batch, so every image meets another and is met once. Whatever
    has a row for each example is mixed so; a layer's outputs, by manifold mixup.

    Args:
        images: floating-point or uint8 (N, ...).
        targets: floating-point (N, K), a probability of each class; see `fr.labels.one_hot`.
        alpha: at least 0, where 0 mixes nothing; a number or a tensor of shape ().
        key: int64 (2,).

    Returns:
        (images, targets) of the same shapes and dtypes.

    Raises:
        FuncregError: for wrong images, targets or alpha.

    >>> images = random.uniform(random.key(0), (2, 3, 8, 8))
    >>> images, targets = mixup(images, torch.eye(2), 0.2, key=random.key(1))
    >>> targets.sum(dim=1)
    tensor([1., 1.])

    Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: beyond empirical risk minimization", ICLR 2018; Verma et al.,
    "Manifold mixup: better representations by interpolating hidden states", ICML 2019.
    """
    core.check_batch(images)
    alpha = _check(images, targets, alpha, key)
    partner = _partner(images, random.uniform(key, dtype=torch.float64))
    share = _draw_share(images, alpha, random.skip(key, 1))
    return _mixed(images, partner, share), _mixed(targets, partner, share)


def cutmix(images: Tensor, targets: Tensor, alpha: Number, *, key: Tensor) -> tuple[Tensor, Tensor]:
    """Replace a box of each image by that of another, and mix the targets by the area replaced.

    With share from Beta(alpha, alpha) the box has sqrt(1 - share) of both sides, each half rounded
    down to pixels, around a pixel drawn uniformly; what reaches beyond the border is cut off. The
    targets follow the pixels that were really replaced. Partners are as in `mixup`.

    Args:
        images: floating-point or uint8 (N, C, H, W).
        targets: floating-point (N, K), a probability of each class; see `fr.labels.one_hot`.
        alpha: at least 0, where 0 mixes nothing; a number or a tensor of shape ().
        key: int64 (2,).

    Returns:
        (images, targets) of the same shapes and dtypes.

    Raises:
        FuncregError: for wrong images, targets or alpha.

    >>> images = random.uniform(random.key(0), (2, 3, 8, 8))
    >>> images, targets = cutmix(images, torch.eye(2), 1.0, key=random.key(1))
    >>> targets.sum(dim=1)
    tensor([1., 1.])

    Yun et al., "CutMix: regularization strategy to train strong classifiers with localizable features",
    ICCV 2019.
    """
    core.check(images)
    alpha = _check(images, targets, alpha, key)
    size, _, height, width = images.shape
    draws = random.uniform(key, (2 * size + 1,), dtype=torch.float64)
    partner = _partner(images, draws[-1])
    row, column = crops.as_pixels(draws[:-1].reshape(2, size), images)
    side = torch.sqrt(1 - _draw_share(images, alpha, random.skip(key, 2 * size + 1)))
    half_height, half_width = torch.floor(side * height / 2), torch.floor(side * width / 2)
    rows = crops.between(row - half_height, 2 * half_height, height)
    columns = crops.between(column - half_width, 2 * half_width, width)
    replaced = (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)
    area = rows.sum(dim=1) * columns.sum(dim=1)
    kept = 1 - area.to(torch.float64) / (height * width)
    images = _checks.spoilt(torch.where(replaced, images.index_select(0, partner), images), alpha)
    return images, _checks.spoilt(_mixed(targets, partner, kept), alpha)


def _partner(images: Tensor, draw: Tensor) -> Tensor:
    """Another image for each, as an index; no image has two, and the only one of its batch has itself."""
    size = images.shape[0]
    shift = 1 + torch.floor(draw * (size - 1)).to(torch.int64)
    return (torch.arange(size, device=images.device) + shift) % size


def _draw_share(images: Tensor, alpha: Number, key: Tensor) -> Tensor:
    """What each image keeps of itself, from Beta(alpha, alpha): float64 (N,); 1 for an alpha of 0."""
    concentration = core.as_setting(alpha, images)
    none = concentration == 0
    concentration = torch.where(none, 1.0, concentration)
    return torch.where(none, 1.0, random.beta(key, concentration, concentration, (images.shape[0],)))


def _mixed(values: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    """`share * values + (1 - share) * values[partner]`, exact for a share of 1."""
    inputs = core.widened(values)
    share = share.to(inputs.dtype).reshape(-1, *(1 for _ in values.shape[1:]))
    return core.narrowed(torch.lerp(core.widened(values.index_select(0, partner)), inputs, share), values)


def _check(images: Tensor, targets: Tensor, alpha: Number, key: Tensor) -> Number:
    """Alpha, checked as the others are."""
    _checks.check_key(key, images)
    alpha = _checks.check_setting("alpha", alpha)
    _checks.check_tensor("targets", targets)
    if not targets.is_floating_point() or targets.shape[:-1] != images.shape[:1] or not targets.shape[-1]:
        remedy = "" if targets.is_floating_point() else "Convert it: fr.labels.one_hot(targets, num_classes)."
        allowed = f"probabilities, a floating-point tensor ({images.shape[0]}, classes) of a class or more"
        _checks.fail("targets", _checks.describe(targets), allowed, remedy)
    _checks.check_beside("targets", targets, images, "images")
    return alpha

"""Random erasing: a box of random area and shape, covered."""

import torch
from torch import Tensor

from .. import _checks, random
from . import boxes, core
from .core import Number
from .crops import apply_cutout


def erase(
    images: Tensor,
    rate: Number = 0.5,
    *,
    key: Tensor,
    scale: tuple[Number, Number] = (0.02, 0.33),
    ratio: tuple[Number, Number] = (0.3, 3.3),
    fill: Number = 0.0,
) -> Tensor:
    """Cover a box of random area, shape and place of each image, with probability rate. Its twin is `apply_cutout`.

    The area is uniform over scale, as a share of the image's; height / width is log-uniform over ratio;
    both sides are rounded to pixels. A box that is not smaller than the image along both axes is drawn
    again, up to ten times; then nothing is covered. As torchvision's `RandomErasing`. No gradient flows
    to rate, scale or ratio.

    Args:
        images: floating-point or uint8 (N, C, H, W).
        rate: the probability, in [0, 1]; a number or a tensor of shape ().
        key: int64 (2,).
        scale: (low, high), above 0; numbers or tensors of shape ().
        ratio: (low, high), above 0; numbers or tensors of shape ().
        fill: in the images' unit; a number, or a tensor of shape () or (C,).

    Returns:
        The images' shape and dtype.

    Raises:
        FuncregError: for wrong images, rate, scale, ratio or fill.

    >>> erase(torch.ones(1, 1, 3, 4), 1.0, key=random.key(0), scale=(0.3, 0.4)).squeeze()
    tensor([[0., 0., 0., 1.],
            [1., 1., 1., 1.],
            [1., 1., 1., 1.]])

    Zhong et al., "Random erasing data augmentation", AAAI 2020.
    """
    core.check_drawn(images, key=key)
    rate = core.as_setting(_checks.check_setting("rate", rate, 0.0, 1.0), images)
    scales, ratios = core.as_range("scale", scale, images), core.as_range("ratio", ratio, images)
    height, width = images.shape[2:]
    draws = random.uniform(key, (5, images.shape[0], boxes.ATTEMPTS), dtype=torch.float64)
    widths, heights = boxes.draw_sides(images, scales, ratios, draws[:2])
    tops, lefts = boxes.draw_place(height, heights, draws[2]), boxes.draw_place(width, widths, draws[3])
    fits, none = (heights < height) & (widths < width), torch.zeros_like(draws[4, :, 0])
    top, left, rows, columns = boxes.first_that_fits(fits, (tops, lefts, heights, widths), (none,) * 4)
    rows = torch.where(draws[4, :, 0] < rate, rows, 0.0)
    return apply_cutout(images, top, left, _checks.spoilt(rows, rate, *scales, *ratios), columns, fill=fill)

"""Two kernels that a compiled program calls as they are: a window of each image, and samples of each.

`torch.compile` would spell them out as scalar code, five to twenty times slower than torch's own
kernels. As operators it does not look into them, and `vmap` makes one call of them for all members.
Where a derivative is taken they are tensor operations, which torch differentiates.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad


def windows(
    images: Tensor,
    top: Tensor,
    left: Tensor,
    size: tuple[int, int],
    padding: int = 0,
    mode: str = "constant",
    fill: float = 0.0,
) -> Tensor:
    """The rows [top, top + size[0]) and columns [left, left + size[1]) of each image, padded as by `F.pad`.

    >>> windows(torch.arange(6).reshape(1, 1, 2, 3), torch.tensor([1]), torch.tensor([1]), (1, 2))
    tensor([[[[4, 5]]]])
    """
    return _windows_operator(images, top, left, *size, padding, mode, fill)


def sample(images: Tensor, grid: Tensor, interpolation: str) -> Tensor:
    """`F.grid_sample`, with zeros beyond the border and pixels that have an area.

    Its forward derivative needs torch 2.15.

    >>> sample(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 1, 2), "bilinear")
    tensor([[[[1.]]]])
    """
    return _sample_operator(images, grid, interpolation)


def _windows(
    images: Tensor, top: Tensor, left: Tensor, height: int, width: int, padding: int, mode: str, fill: float
) -> Tensor:
    padded = _padded(images, padding, mode, fill)
    count, channels, rows, columns = padded.shape
    # With the images laid end to end, each row of a window is one copy.
    planes = torch.arange(count * channels, device=images.device).reshape(count, channels, 1) * rows
    lines = planes + (top.unsqueeze(1) + torch.arange(height, device=images.device)).unsqueeze(1)
    starts = lines * columns + left.reshape(count, 1, 1)
    pieces = padded.reshape(-1).unfold(0, width, 1)
    return pieces.index_select(0, starts.reshape(-1)).reshape(count, channels, height, width)


def _gathered_windows(
    images: Tensor, top: Tensor, left: Tensor, height: int, width: int, padding: int, mode: str, fill: float
) -> Tensor:
    padded = _padded(images, padding, mode, fill)
    rows = top.unsqueeze(1) + torch.arange(height, device=images.device)
    columns = left.unsqueeze(1) + torch.arange(width, device=images.device)
    index = (rows.unsqueeze(2) * padded.shape[3] + columns.unsqueeze(1)).flatten(1).unsqueeze(1)
    return padded.flatten(2).gather(2, index.expand(-1, images.shape[1], -1)).unflatten(2, (height, width))


def _padded(images: Tensor, padding: int, mode: str, fill: float) -> Tensor:
    if not padding:
        return images
    return F.pad(images, (padding,) * 4, mode=mode, value=fill if mode == "constant" else None)


def _sample(images: Tensor, grid: Tensor, interpolation: str) -> Tensor:
    return F.grid_sample(images, grid, mode=interpolation, padding_mode="zeros", align_corners=False).contiguous()


def operator(
    schema: str, kernel: Callable[..., Tensor], formula: Callable[..., Tensor], shape: Callable[..., list[int]]
) -> Callable[..., Tensor]:
    """An operator over tensors whose first axis is the batch, then numbers and strings.

    kernel and formula compute the same, the second with operations that torch can differentiate and batch.
    """
    short = schema.partition("(")[0]
    name = f"funcreg::{short}"
    torch.library.define(name, f"{schema.removeprefix(short)} -> Tensor")
    operator = getattr(torch.ops.funcreg, short).default

    def differentiable(*given: Any) -> Tensor:
        if any(_is_differentiated(each) for each in given if isinstance(each, Tensor)):
            return formula(*given)
        with torch._C._AutoDispatchBelowAutograd():
            return operator(*given)

    def batched(info: Any, dims: tuple[int | None, ...], *given: Any) -> tuple[Tensor, int]:
        def joined(value: Any, dim: int | None) -> Any:
            if not isinstance(value, Tensor):
                return value
            members = value.expand(info.batch_size, *value.shape) if dim is None else value.movedim(dim, 0)
            return members.flatten(0, 1)

        return operator(*map(joined, given, dims)).unflatten(0, (info.batch_size, -1)), 0

    torch.library.impl(name, "CompositeExplicitAutograd", kernel)
    torch.library.impl(name, "Autograd", differentiable)
    torch.library.register_fake(name, lambda images, *rest: images.new_empty(shape(images, *rest)))
    torch.library.register_vmap(name, batched)
    return operator


def _is_differentiated(tensor: Tensor) -> bool:
    forward = forward_ad.unpack_dual(tensor, level=0).tangent is not None
    return forward or (tensor.requires_grad and torch.is_grad_enabled())


_windows_operator = operator(
    "windows(Tensor images, Tensor top, Tensor left, int height, int width, int padding, str mode, float fill)",
    _windows,
    _gathered_windows,
    lambda images, top, left, height, width, *padding: [*images.shape[:2], height, width],
)
_sample_operator = operator(
    "sample(Tensor images, Tensor grid, str interpolation)",
    _sample,
    _sample,
    lambda images, grid, interpolation: [*images.shape[:2], *grid.shape[1:3]],
)

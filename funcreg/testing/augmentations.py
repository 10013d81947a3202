"""Augmentations: `(images[, targets], *, key) -> the same`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _checks, random
from .calls import said
from .check import begun
from .example import Example, Settings, example, replaced, title
from .reports import Finding, Report, refuse_broken

COPIES = 16  # of one image


def check_augmentation(
    augmentation: Callable[..., Any],
    images: Tensor,
    *args: Any,
    key: Tensor | None = None,
    batched: Settings = (),
    jit: bool = False,
    mixes: bool = False,
    uint8: bool = False,
    **kwargs: Any,
) -> None:
    """Refuse an augmentation that breaks a rule: those of `report`, and

    - shape: as many images and channels as before.
    - own draws: not all of 16 equal images get the same draw.
    - own images: what becomes of an image does not depend on the others.
    - range: what was in [0, 1] still is.
    - uint8: integers in [0, 255] stay uint8, and become what floats would, to 2 of 255 levels.

    Args:
        augmentation: `augmentation(images, *args, key=key, **kwargs)`.
        images: (N, C, H, W), floating-point in [0, 1].
        *args: such as targets.
        key, batched, jit: as for `check`; without a key it draws nothing.
        mixes: whether it is to mix images with others, as mixup does.
        uint8: whether it takes images of integers too.

    Raises:
        AssertionError: lists each broken rule with its evidence.
        FuncregError: for arguments of `check_augmentation` itself.

    >>> import funcreg as fr
    >>> images = fr.random.uniform(fr.random.key(0), (4, 3, 6, 6))
    >>> check_augmentation(fr.augment.flip, images, key=fr.random.key(1))
    >>> together = lambda images, *, key: images.flip(-1) if fr.random.bernoulli(key, 0.5) else images
    >>> check_augmentation(together, images, key=fr.random.key(1))
    Traceback (most recent call last):
    AssertionError: <lambda> breaks 2 rules:
      vmap: vmap is not possible: ...
      own draws: 16 equal images come out equal
    """
    _checks.check_floating("images", images, ndim=4)
    given: dict[str, Any] = {"key": key, "batched": batched, **kwargs}
    tried = example(augmentation, images, *args, **given)
    found, leaves, result = begun(title(augmentation), tried, jit=jit, gradients=True, dtype="kept")
    result = _images(result)
    if not isinstance(result, Tensor) or result.shape[:2] != images.shape[:2]:
        line = f"{_checks.describe(result)} for images of shape {tuple(images.shape)}"
        found.append(Finding("shape", (line,)))
    else:
        found += [
            Finding("shape"),
            _own_draws(tried, leaves),
            Finding("own images", (), "it mixes them") if mixes else Finding("own images", _own_images(tried, leaves)),
            _range(images, result),
            Finding("uint8", _as_uint8(tried, leaves)) if uint8 else Finding("uint8", (), "ask for it: uint8=True"),
        ]
    refuse_broken(Report(title(augmentation), tuple(found)))


def _images(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result


def _own_draws(tried: Example, leaves: list[Any]) -> Finding:
    count = leaves[0].shape[0]
    beside = [at for at in tried.tensors if at and at != tried.keyed and _is_batched(leaves[at], count)]
    if tried.keyed is None or beside:
        return Finding("own draws", (), "no key is given" if tried.keyed is None else "more than images is given")
    equal = leaves[0][:1].expand(COPIES, *leaves[0].shape[1:])
    for turn in range(4):  # a draw of nothing is possible
        key = random.fold_in(leaves[tried.keyed], turn)
        try:
            each = _images(tried.call(replaced(leaves, [0, tried.keyed], [equal, key])))
        except Exception as error:
            return Finding("own draws", (f"{COPIES} images are refused, {count} are not: {said(error)}",))
        if not torch.equal(each, each[:1].expand_as(each)):
            return Finding("own draws")
    return Finding("own draws", (f"{COPIES} equal images come out equal",))


def _own_images(tried: Example, leaves: list[Any]) -> tuple[str, ...]:
    if len(leaves[0]) < 2:
        return ()
    first, rest = leaves[0][:1], leaves[0][1:].flip(-1)
    batches = [torch.cat((first, others)) for others in (rest, rest / 4, 1 - rest / 4)]
    one, *others = (_images(tried.call(replaced(leaves, [0], [each])))[0] for each in batches)
    gap = max(float((one - other).abs().max()) for other in others)
    return (f"the first image changes by {gap:.3g} with the others",) if gap > 1e-5 else ()


def _range(images: Tensor, result: Tensor) -> Finding:
    low, high = (float(each) for each in torch.aminmax(result.detach()))
    if not bool(((images >= 0) & (images <= 1)).all()):
        return Finding("range", (), "images are not in [0, 1]")
    return Finding("range", (f"from [0, 1] to [{low:.4g}, {high:.4g}]",) if low < -1e-5 or high > 1 + 1e-5 else ())


def _as_uint8(tried: Example, leaves: list[Any]) -> tuple[str, ...]:
    levels = (leaves[0] * 255).round()
    try:
        integers = _images(tried.call(replaced(leaves, [0], [levels.to(torch.uint8)])))
    except Exception as error:
        return (said(error),)
    if integers.dtype != torch.uint8:
        return (f"the result is {str(integers.dtype).removeprefix('torch.')}",)
    floats = _images(tried.call(replaced(leaves, [0], [levels / 255]))) * 255
    gap = float((integers.double() - floats.double()).abs().max())
    return (f"differs by {gap:.3g} levels from what floats give",) if gap > 2 else ()


def _is_batched(leaf: Any, count: int) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == count

"""Augmentation: `(images[, targets], *, key) -> the same`, a draw of its own for each image.

Images are (N, C, H, W), floating-point or uint8, and keep their dtype; those of 16 bits are computed
in float32, uint8 ones rounded as torchvision rounds them. There is no loop over images, so a whole
batch, or a `vmap` of batches each with its own settings, is one program. The functions named
`apply_` take the parameters of each image instead of drawing them.

    crops.py        flip, crop, cutout: pixels moved or covered
    resizing.py     resized_crop: a box resized
    geometry.py     rotate, affine
    color.py        color_jitter: brightness, contrast, saturation, hue
    mixing.py       mixup, cutmix: of images and targets
    composition.py  compose: several as one
    core.py         what they share
"""

from .color import apply_color, color_jitter
from .composition import compose
from .crops import apply_crop, apply_cutout, crop, cutout, flip
from .geometry import affine, apply_affine, rotate
from .mixing import cutmix, mixup
from .resizing import apply_resized_crop, resized_crop

__all__ = [
    "affine",
    "apply_affine",
    "apply_color",
    "apply_crop",
    "apply_cutout",
    "apply_resized_crop",
    "color_jitter",
    "compose",
    "crop",
    "cutmix",
    "cutout",
    "flip",
    "mixup",
    "resized_crop",
    "rotate",
]

"""Augmentation: `(images[, targets], *, key) -> the same`, a draw of its own for each image.

Images are (N, C, H, W), floating-point or uint8, and keep their dtype; those of 16 bits are computed
in float32, uint8 ones rounded as torchvision rounds them. There is no loop over images, so a whole
batch, or a `vmap` of batches each with its own settings, is one program. The functions named
`apply_` take the parameters of each image instead of drawing them. What a setting that is none would change is
NaN, and 0 in uint8 images, which have no NaN.

    crops.py        flip, crop, cutout: pixels moved or covered
    erasing.py      erase: a box covered
    resizing.py     resized_crop: a box resized
    geometry.py     rotate, affine
    moves.py        shear, translate
    color.py        color_jitter: brightness, contrast, saturation, hue; grey images and normal ones
    levels.py       invert, solarize, posterize, autocontrast, equalize: levels for levels
    filters.py      gaussian_blur, sharpness: pixels mixed with their neighbours
    policies.py     rand_augment, trivial_augment: operations drawn for each image
    auto.py         auto_augment: the published policies
    mixing.py       mixup, cutmix: of images and targets
    composition.py  compose: several as one; sometimes: one for some of the images
    boxes.py        boxes of random area and shape
    core.py         what they share
"""

from .auto import auto_augment
from .color import apply_color, apply_grayscale, apply_normalize, color_jitter
from .composition import compose, sometimes
from .crops import apply_crop, apply_cutout, crop, cutout, flip
from .erasing import erase
from .filters import apply_gaussian_blur, apply_sharpness, gaussian_blur
from .geometry import affine, apply_affine, rotate
from .levels import apply_autocontrast, apply_equalize, apply_invert, apply_posterize, apply_solarize
from .mixing import cutmix, mixup
from .moves import apply_shear, apply_translate, shear, translate
from .policies import OPERATIONS, apply_operation, rand_augment, trivial_augment
from .resizing import apply_resized_crop, resized_crop

__all__ = [
    "OPERATIONS",
    "affine",
    "apply_affine",
    "apply_autocontrast",
    "apply_color",
    "apply_crop",
    "apply_cutout",
    "apply_equalize",
    "apply_gaussian_blur",
    "apply_grayscale",
    "apply_invert",
    "apply_normalize",
    "apply_operation",
    "apply_posterize",
    "apply_resized_crop",
    "apply_sharpness",
    "apply_shear",
    "apply_solarize",
    "apply_translate",
    "auto_augment",
    "color_jitter",
    "compose",
    "crop",
    "cutmix",
    "cutout",
    "erase",
    "flip",
    "gaussian_blur",
    "mixup",
    "rand_augment",
    "resized_crop",
    "rotate",
    "shear",
    "sometimes",
    "translate",
    "trivial_augment",
]

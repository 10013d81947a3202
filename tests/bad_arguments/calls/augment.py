"""Good calls of `augment`."""

from functools import partial

import torch

from funcreg import augment
from tests.bad_arguments.call import IMAGES, KEY, SOFT, Call, call

TOP = torch.tensor([0.0, 1.0, 2.0, 0.0])

CALLS: list[Call] = [
    call("augment.apply_color", augment.apply_color, images=IMAGES, brightness=1.1, contrast=0.9, saturation=1.2,
         hue=0.1),
    call("augment.color_jitter", augment.color_jitter, images=IMAGES, key=KEY, brightness=0.1, contrast=0.1,
         saturation=0.1, hue=0.1),
    call("augment.compose", lambda functions: augment.compose(functions, partial(augment.cutout, size=2)),
         functions=augment.flip),
    call("augment.compose()", lambda images, targets, key: augment.compose(
        augment.flip, partial(augment.mixup, alpha=0.5))(images, targets, key=key),
         images=IMAGES, targets=SOFT, key=KEY),
    call("augment.sometimes", lambda function, rate: augment.sometimes(function, rate)(IMAGES, key=KEY),
         function=augment.apply_invert, rate=0.5),
    call("augment.sometimes()", lambda images, targets, key: augment.sometimes(
        partial(augment.mixup, alpha=0.5), 0.5)(images, targets, key=key), images=IMAGES, targets=SOFT, key=KEY),
    call("augment.apply_crop", augment.apply_crop, images=IMAGES, top=TOP.long(), left=1, size=(3, 2)),
    call("augment.apply_cutout", augment.apply_cutout, images=IMAGES, top=TOP, left=1.0, height=2.0, width=3.0,
         fill=0.5),
    call("augment.crop", augment.crop, images=IMAGES, padding=2, key=KEY, mode="constant", fill=0.5),
    call("augment.cutout", augment.cutout, images=IMAGES, size=3.0, key=KEY, fill=0.5),
    call("augment.erase", augment.erase, images=IMAGES, rate=0.5, key=KEY, scale=(0.02, 0.33), ratio=(0.3, 3.3),
         fill=0.5),
    call("augment.flip", augment.flip, images=IMAGES, rate=0.5, key=KEY, direction="horizontal"),
    call("augment.affine", augment.affine, images=IMAGES, key=KEY, degrees=10.0, translate=0.1, scale=(0.9, 1.1),
         shear=5.0, interpolation="bilinear", fill=0.5),
    call("augment.apply_affine", augment.apply_affine, images=IMAGES, angle=10.0, translate=(1.0, 2.0), scale=1.1,
         shear=(5.0, 0.0), interpolation="bilinear", fill=0.5),
    call("augment.apply_affine of tensors", augment.apply_affine, images=IMAGES, angle=10 * TOP,
         translate=(TOP, TOP), scale=1 + TOP, shear=(TOP, TOP), interpolation="nearest", fill=TOP[:3]),
    call("augment.rotate", augment.rotate, images=IMAGES, degrees=10.0, key=KEY, interpolation="bilinear", fill=0.5),
    call("augment.cutmix", augment.cutmix, images=IMAGES, targets=SOFT, alpha=0.5, key=KEY),
    call("augment.mixup", augment.mixup, images=IMAGES, targets=SOFT, alpha=0.5, key=KEY),
    call("augment.apply_resized_crop", augment.apply_resized_crop, images=IMAGES, top=TOP.long(), left=1, height=3,
         width=3, size=(4, 7), antialias=True),
    call("augment.resized_crop", augment.resized_crop, images=IMAGES, key=KEY, size=(4, 7), scale=(0.5, 1.0),
         ratio=(0.75, 1.33), antialias=True),
    call("augment.apply_invert", augment.apply_invert, images=IMAGES),
    call("augment.apply_solarize", augment.apply_solarize, images=IMAGES, threshold=0.5),
    call("augment.apply_posterize", augment.apply_posterize, images=IMAGES, bits=4.0),
    call("augment.apply_autocontrast", augment.apply_autocontrast, images=IMAGES),
    call("augment.apply_equalize", augment.apply_equalize, images=IMAGES),
    call("augment.apply_grayscale", augment.apply_grayscale, images=IMAGES),
    call("augment.apply_normalize", augment.apply_normalize, images=IMAGES, mean=0.5, std=0.5),
    call("augment.apply_sharpness", augment.apply_sharpness, images=IMAGES, factor=1.5),
    call("augment.gaussian_blur", augment.gaussian_blur, images=IMAGES, kernel_size=3, sigma=(0.5, 1.0), key=KEY),
    call("augment.apply_gaussian_blur", augment.apply_gaussian_blur, images=IMAGES, kernel_size=3, sigma=1.0),
    call("augment.shear", augment.shear, images=IMAGES, amount=0.3, key=KEY, interpolation="bilinear", fill=0.5),
    call("augment.apply_shear", augment.apply_shear, images=IMAGES, along_x=0.3, along_y=0.2,
         interpolation="bilinear", fill=0.5),
    call("augment.translate", augment.translate, images=IMAGES, share=0.3, key=KEY, interpolation="bilinear",
         fill=0.5),
    call("augment.apply_translate", augment.apply_translate, images=IMAGES, across=1.5, down=0.5,
         interpolation="bilinear", fill=0.5),
    call("augment.rand_augment", augment.rand_augment, images=IMAGES, key=KEY, num_ops=2, magnitude=9.0,
         interpolation="nearest", fill=0.5),
    call("augment.trivial_augment", augment.trivial_augment, images=IMAGES, key=KEY, interpolation="nearest",
         fill=0.5),
    call("augment.apply_operation", augment.apply_operation, images=IMAGES, operation="brightness", amount=0.5,
         interpolation="nearest", fill=0.5),
    call("augment.auto_augment", augment.auto_augment, images=IMAGES, policy="svhn", key=KEY,
         interpolation="nearest", fill=0.5),
]  # fmt: skip

"""Which bad values are none: (functions, arguments, kinds) as patterns, and why. The first that fits counts."""

from fnmatch import fnmatchcase

ANY_SHAPE = "it is of any shape, or of any number of rows, that fits the others"
SETTINGS = "any finite number, or a tensor of them that fits"

DOCUMENTED: list[tuple[str, str, str, str]] = [
    ("*", "key", "value: *", "two integers are a key, whichever they are"),
    ("*", "*", "*dtype: float16", "16 bits are a floating-point dtype as any other"),
    ("*", "*", "a tensor: float16", "a setting may be of any real dtype"),
    ("*", "*", "a tensor: int64", "a setting may be of any real dtype"),
    ("*", "*", "*huge", "there is no upper end, and it is finite"),
    ("*", "dtype", "a dtype", "it is one"),
    ("keep_memory", "most", "0", "nothing is kept"),
    # noise
    ("noise.*", "x", "shape: *", ANY_SHAPE),
    ("noise.layer_drop", "x", "value: *", "what is dropped has no part in the result"),
    ("noise.*", "prefix", "0", "no token that is always kept"),
    ("noise.rrelu", "lower", "*negative", "slopes are any numbers, the lower one first"),
    # augment
    ("augment.*", "images", "shape: *", ANY_SHAPE),
    ("augment.*", "images", "dtype: uint8", "images are floating-point or uint8"),
    ("augment.*", "images", "value: *", "what is cut off has no part in the result; colours are clamped to [0, 1]"),
    ("augment.compose()", "images", "empty: *", "images without pixels still have targets"),
    ("augment.*", "targets", "shape: axis 1*", "any number of classes"),
    ("augment.*", "*", "a tensor: shape (4,)", "one for each image"),
    ("augment.*", "fill", "a tensor: shape (3,)", "one for each channel"),
    ("augment.*", "fill", "*negative", SETTINGS),
    ("augment.*", "size", "the other way round", "a size"),
    ("augment.*", "padding", "0", "no padding"),
    ("augment.apply_*", "top", "*", "a place is a number, or a tensor of them, moved into the image"),
    ("augment.apply_*", "left", "*", "a place is a number, or a tensor of them, moved into the image"),
    ("augment.apply_affine*", "*", "*negative", SETTINGS),
    ("augment.apply_affine*", "*", "a number", SETTINGS),
    ("augment.apply_affine*", "*", "in it: a fraction", SETTINGS),
    ("augment.*affine*", "*", "a list", "a pair"),
    ("augment.apply_normalize", "*", "a tensor: shape (3,)", "one for each channel"),
    ("augment.apply_normalize", "mean", "*negative", SETTINGS),
    ("augment.apply_shear", "along_?", "*negative", SETTINGS),
    ("augment.apply_translate", "*", "*negative", SETTINGS),
    ("augment.apply_operation", "amount", "*negative", "a change of the brightness by less than all of it"),
    ("augment.apply_operation", "fill", "a tensor: NaN", "what moves nothing fills nothing"),
    ("augment.erase", "*", "a list", "a pair"),
    ("augment.erase", "ratio", "in it: a fraction", "any numbers above 0, the lower one first"),
    ("augment.erase", "ratio", "in it: a tensor", "an end may be a tensor of shape ()"),
    ("augment.gaussian_blur", "sigma", "a list", "a pair"),
    ("augment.rand_augment", "num_ops", "0", "no operation"),
    # random
    ("random.*", "shape", "one *", "a shape"),
    ("random.*", "shape", "none", "a shape"),
    ("random.*", "shape", "the other way round", "a shape"),
    ("random.*", "*", "*negative", SETTINGS),
    ("random.*", "*", "a tensor: shape (3,)", "it broadcasts to the shape drawn"),
    ("random.*", "*", "0", SETTINGS),
    ("random.*of a tensor", "*", "value: *", "any integer"),
    ("random.categorical", "logits", "shape: *", ANY_SHAPE),
]


def why(function: str, argument: str, kind: str) -> str:
    """Why a value is fine there; "" if nothing says that it is."""
    for functions, arguments, kinds, reason in DOCUMENTED:
        if fnmatchcase(function, functions) and fnmatchcase(argument, arguments) and fnmatchcase(kind, kinds):
            return reason
    return ""

"""Which bad values are none: (functions, arguments, kinds) as patterns, and why. The first that fits counts."""

from fnmatch import fnmatchcase

ANY_SHAPE = "it is of any shape, or of any number of rows, that fits the others"
SETTINGS = "any finite number, or a tensor of them that fits"

OF_PARAMS = ("penalties.*", "constraints.*", "noise.drop_connect")
LEFT_OUT = "what the mask leaves out has no part"
TREES = {  # of params, of which leaf 0 is left out
    "a dict": "None is no leaf",
    "leaf 0: *": LEFT_OUT,
    "leaf 1: shape: *": "a leaf of any shape",
    "leaf 1: empty": "a leaf of any shape",
    "empty: *": "a tree of nothing: the sum is 0, the result is the same tree",
    "shape: *": "a tensor is a tree, a leaf of any shape",
    "structure: *": "any tree of tensors",
}

DOCUMENTED: list[tuple[str, str, str, str]] = [
    ("*", "key", "value: *", "two integers are a key, whichever they are"),
    ("*", "*", "*dtype: float16", "16 bits are a floating-point dtype as any other"),
    ("*", "*", "a tensor: float16", "a setting may be of any real dtype"),
    ("*", "*", "a tensor: int64", "a setting may be of any real dtype"),
    ("*", "*", "*huge", "there is no upper end, and it is finite"),
    ("*", "dtype", "a dtype", "it is one"),
    ("keep_memory", "most", "0", "nothing is kept"),
    ("*", "ignore_index", "None", "no target is ignored"),
    ("*", "ignore_index", "0", "any integer"),
    ("*", "ignore_index", "negative", "any integer"),
    ("*", "targets", "value: -100", "it is ignored"),
    ("*", "targets", "dtype: uint8", "classes are integers of any dtype"),
    ("*", "dim", "0", "an axis, from the front"),
    ("*", "dim", "negative", "an axis, from the end"),
    *((of, "mask", "a function that returns text", "the truth of what it returns") for of in OF_PARAMS),
    *((of, "params", kinds, why) for of in OF_PARAMS for kinds, why in TREES.items()),
    # norm
    ("norm.batch_norm in evaluation", "momentum", "*", "evaluation moves no statistics"),
    ("norm.batch_norm", "momentum", "None", "the plain average of all batches"),
    ("norm.batch_norm in evaluation", "x", "empty: axis 0", "no examples"),
    ("norm.fit_min_max", "low", "*negative", SETTINGS),
    ("norm.init_spectral_state", "weight", "shape: *", ANY_SHAPE),
    ("norm.init_spectral_state", "weight", "empty: *", ANY_SHAPE),
    ("norm.spectral_norm", "weight", "shape: another axis behind", ANY_SHAPE),
    ("norm.spectral_norm", "state", "leaf 0: value: *", "a power step makes a new u"),
    ("norm.*spectral*", "steps", "0", "none"),
    ("norm.unit_norm", "order", "inf", "the largest absolute value"),
    ("norm.weight_norm", "direction", "shape: *", ANY_SHAPE),
    ("norm.weight_norm", "magnitude", "shape: axis 1 of 1", "as it is"),
    ("norm.*", "x", "shape: *", ANY_SHAPE),
    # losses, labels
    ("losses.*", "targets", "dtype: [biu]*", "numbers of any real dtype"),
    ("losses.binary_cross_entropy", "weight", "shape: *", "it broadcasts with logits"),
    ("losses.accuracy", "logits", "shape: axis 1 longer", ANY_SHAPE),
    ("losses.accuracy", "logits", "value: *inf", "the largest logit counts"),
    ("labels.one_hot", "dtype", "torch.*", "any dtype"),
    ("labels.class_weights", "targets", "empty: axis 0", "0 for classes without targets"),
    ("labels.*", "targets", "shape: *", ANY_SHAPE),
    # penalties
    ("penalties.l2_distance", "anchor", "leaf 0: *", LEFT_OUT),
    ("penalties.l2_distance", "anchor", "structure: a leaf more", LEFT_OUT),
    ("penalties.confidence", "logits", "shape: *", ANY_SHAPE),
    ("penalties.confidence", "logits", "value: -inf", "it excludes a class"),
    ("penalties.gradient_penalty", "x", "empty: axis 1", "a gradient of no numbers has norm 0"),
    ("penalties.*", "x", "shape: *", ANY_SHAPE),
    # adversarial
    ("adversarial.*", "low", "None", "no bound"),
    ("adversarial.*", "high", "None", "no bound"),
    ("adversarial.*", "low", "*negative", SETTINGS),
    ("adversarial.*", "x", "shape: *", ANY_SHAPE),
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
    ("random.categorical", "logits", "value: -inf", "it excludes a class"),
    ("random.categorical", "logits", "value: inf", "it is the class"),
    ("random.*of a tensor", "*", "its list", "an integer"),
    ("random.*of a tensor", "*", "dtype: uint8", "an integer of any dtype"),
]


def why(function: str, argument: str, kind: str) -> str:
    """Why a value is fine there; "" if nothing says that it is."""
    for functions, arguments, kinds, reason in DOCUMENTED:
        if fnmatchcase(function, functions) and fnmatchcase(argument, arguments) and fnmatchcase(kind, kinds):
            return reason
    return ""

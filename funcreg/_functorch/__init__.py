"""The one place that asks torch's private module about transforms."""

from .derivatives import asks_for_gradients, constant, depends, derivative_along, differentiated, gradients, recordable
from .transforms import (
    bare,
    depth,
    in_transform,
    in_vmap,
    innermost,
    is_wrapped,
    levels_of_vmap,
    needs_formulas,
    outside_transforms,
    plain,
    readable,
    traced_as_constant,
    varies_with,
)

__all__ = [
    "asks_for_gradients",
    "bare",
    "constant",
    "depends",
    "depth",
    "derivative_along",
    "differentiated",
    "gradients",
    "in_transform",
    "in_vmap",
    "innermost",
    "is_wrapped",
    "levels_of_vmap",
    "needs_formulas",
    "outside_transforms",
    "plain",
    "readable",
    "recordable",
    "traced_as_constant",
    "varies_with",
]

"""Good calls of `constraints`."""

from funcreg import constraints, tree
from tests.bad_arguments.call import PARAMS, Call, call

CALLS: list[Call] = [
    call("constraints.max_norm", constraints.max_norm, params=PARAMS, maximum=1.0, mask=tree.is_weight, dim=0),
    call("constraints.unit_norm", constraints.unit_norm, params=PARAMS, mask=tree.is_weight, dim=0),
    call("constraints.non_negative", constraints.non_negative, params=PARAMS, mask=tree.is_weight),
    call("constraints.spectral_ball", constraints.spectral_ball, params=PARAMS, radius=1.0, mask=tree.is_weight),
]

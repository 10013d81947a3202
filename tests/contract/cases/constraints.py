"""Cases of `constraints`."""

from funcreg import constraints
from tests.contract.case import PARAMS, Case

TREE = {"params": PARAMS}

CASES = [
    Case("constraints.max_norm", constraints.max_norm, TREE, {"maximum": (0.0, 1.0, 100.0)}),
    Case("constraints.unit_norm", lambda params: constraints.unit_norm(params, dim=1), TREE),
    Case("constraints.non_negative", constraints.non_negative, TREE),
    Case("constraints.spectral_ball", constraints.spectral_ball, TREE, {"radius": (0.0, 1.0, 100.0)}),
]

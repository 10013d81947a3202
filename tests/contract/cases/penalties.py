"""Cases of `penalties`."""

from funcreg import penalties, tree
from tests.contract.case import PARAMS, STRENGTH, Case

CASES = [
    Case("penalties.l1", penalties.l1, {"params": PARAMS}, STRENGTH, at_least_float32=True),
    Case(
        "penalties.l2",
        lambda params, strength: penalties.l2(params, strength, mask=tree.is_weight),
        {"params": PARAMS},
        STRENGTH,
        at_least_float32=True,
    ),
    Case(
        "penalties.elastic_net",
        penalties.elastic_net,
        {"params": PARAMS},
        {"l1_strength": (0.0, 0.1, 2.0), "l2_strength": (1.0, 0.0, 0.3)},
        at_least_float32=True,
    ),
]

"""Cases of `penalties`."""

import torch

import funcreg as fr
from funcreg import penalties, tree
from tests.contract.case import IMAGES, PARAMS, STRENGTH, Case, X, drawn

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
    *(
        Case(
            "penalties.group_lasso",
            lambda params, strength, dim=dim: penalties.group_lasso(params, strength, dim=dim),
            {"params": PARAMS},
            STRENGTH,
            variant=f"dim {dim}",
            at_least_float32=True,
        )
        for dim in (0, 1)
    ),
    Case(
        "penalties.l2_distance",
        penalties.l2_distance,
        {"params": PARAMS, "anchor": {"0.weight": drawn(30, 4, 3), "0.bias": drawn(31, 4), "head": PARAMS["head"]}},
        STRENGTH,
        at_least_float32=True,
    ),
    *(
        Case(
            f"penalties.{penalty.__name__}",
            penalty,
            {"params": params},
            STRENGTH,
            variant=variant,
            at_least_float32=True,
        )
        for penalty in (penalties.orthogonality, penalties.spectral)
        for variant, params in (("matrices", PARAMS), ("kernel", {"weight": drawn(32, 3, 2, 2, 2)}))
    ),
    *(
        Case(
            "penalties.jacobian",
            lambda x, weight, strength, key, count=count: penalties.jacobian(
                lambda x: torch.tanh(x.flatten(1) @ weight), x, strength, key=key, projections=count
            ),
            {**IMAGES, "weight": drawn(33, 40, 4)},
            STRENGTH,
            keyed=True,
            variant=f"{count} projections",
            at_least_float32=True,
        )
        for count in (1, 2)
    ),
    Case(
        "penalties.jacobian",
        lambda x, weight, strength: penalties.jacobian(
            lambda x: torch.tanh(x @ weight), x, strength, key=fr.random.key(0, device=x.device), projections=4
        ),
        {**X, "weight": drawn(34, 5, 4)},
        STRENGTH,
        variant="exact",
        at_least_float32=True,
    ),
    Case(
        "penalties.gradient_penalty",
        lambda x, weight, strength, target: penalties.gradient_penalty(
            lambda x: torch.tanh(x @ weight).sum(dim=1), x, strength, target=target
        ),
        {**X, "weight": drawn(35, 5, 4)},
        {**STRENGTH, "target": (0.0, 1.0, 0.5)},
        at_least_float32=True,
    ),
    Case("penalties.interpolate", penalties.interpolate, {"real": drawn(36, 6, 5), "fake": drawn(37, 6, 5)}, {}, True),
    Case("penalties.confidence", penalties.confidence, {"logits": drawn(38, 6, 4)}, STRENGTH, at_least_float32=True),
]

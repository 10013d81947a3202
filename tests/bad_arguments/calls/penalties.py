"""Good calls of `penalties`."""

from funcreg import penalties, tree
from tests.bad_arguments.call import GRADS, KEY, PARAMS, Call, X, call

OF_PARAMS = (penalties.l1, penalties.l2, penalties.orthogonality, penalties.spectral)

CALLS: list[Call] = [
    call("penalties.confidence", penalties.confidence, logits=X, strength=0.1),
    call("penalties.gradient_penalty", penalties.gradient_penalty, function=lambda x: (x**2).sum(-1), x=X,
         strength=0.1, target=1.0),
    call("penalties.interpolate", penalties.interpolate, real=X, fake=X + 1, key=KEY),
    call("penalties.jacobian", penalties.jacobian, function=lambda x: x**2, x=X, strength=0.1, key=KEY,
         projections=2),
    *(
        call(f"penalties.{each.__name__}", each, params=PARAMS, strength=0.1, mask=tree.is_weight)
        for each in OF_PARAMS
    ),
    call("penalties.elastic_net", penalties.elastic_net, params=PARAMS, l1_strength=0.1, l2_strength=0.2,
         mask=tree.is_weight),
    call("penalties.group_lasso", penalties.group_lasso, params=PARAMS, strength=0.1, mask=tree.is_weight, dim=0),
    call("penalties.l2_distance", penalties.l2_distance, params=PARAMS, anchor=GRADS, strength=0.1,
         mask=tree.is_weight),
]  # fmt: skip

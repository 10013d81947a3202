"""Good calls of `noise`."""

from funcreg import noise, tree
from tests.bad_arguments.call import IMAGES, KEY, PARAMS, TOKENS, Call, X, call

CALLS: list[Call] = [
    *(
        call(f"noise.{each.__name__}", each, x=X, rate=0.3, key=KEY)
        for each in (noise.dropout, noise.alpha_dropout, noise.gaussian_dropout)
    ),
    *(
        call(f"noise.{each.__name__}", each, x=IMAGES, rate=0.3, key=KEY)
        for each in (noise.channel_dropout, noise.feature_alpha_dropout)
    ),
    call("noise.gaussian_noise", noise.gaussian_noise, x=X, std=0.3, key=KEY),
    call("noise.rrelu", noise.rrelu, x=X, lower=0.1, upper=0.3, key=KEY),
    call("noise.drop_connect", noise.drop_connect, params=PARAMS, rate=0.3, key=KEY, mask=tree.is_weight),
    call("noise.drop_block", noise.drop_block, x=IMAGES, rate=0.3, key=KEY, block_size=2),
    call("noise.drop_path", noise.drop_path, x=X, rate=0.3, key=KEY, mode="row"),
    call("noise.layer_drop", noise.layer_drop, x=X, skipped=X + 1, rate=0.3, key=KEY),
    call("noise.token_dropout", noise.token_dropout, x=TOKENS, rate=0.3, key=KEY, prefix=1),
]

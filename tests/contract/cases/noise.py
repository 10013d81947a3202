"""Cases of `noise`."""

from torch import Tensor
from torch.func import vmap

from funcreg import noise, random
from tests.contract.case import IMAGES, PARAMS, RATE, Case, X, drawn


def layers_dropped(x: Tensor, skipped: Tensor, rate: Tensor, key: Tensor) -> Tensor:
    """Many layers, a key each: with one layer, two keys may well agree."""
    keys = random.split(key, len(x))
    return vmap(lambda x, skipped, key: noise.layer_drop(x, skipped, rate, key=key))(x, skipped, keys)


CASES = [
    Case("noise.dropout", noise.dropout, X, RATE, keyed=True),
    Case("noise.channel_dropout", noise.channel_dropout, {"x": drawn(20, 4, 5, 3)}, RATE, keyed=True),
    Case("noise.alpha_dropout", noise.alpha_dropout, X, RATE, keyed=True),
    Case("noise.feature_alpha_dropout", noise.feature_alpha_dropout, {"x": drawn(20, 4, 5, 3)}, RATE, keyed=True),
    Case("noise.gaussian_dropout", noise.gaussian_dropout, X, RATE, keyed=True),
    Case("noise.gaussian_noise", noise.gaussian_noise, X, {"std": (0.0, 0.3, 2.0)}, keyed=True),
    Case("noise.rrelu", noise.rrelu, X, {"lower": (-0.1, 0.1, 0.3), "upper": (0.2, 0.3, 0.3)}, keyed=True),
    Case(
        "noise.token_dropout",  # its rate is a number, since the shape depends on it
        lambda x, key: noise.token_dropout(x, 0.4, key=key, prefix=1),
        {"x": drawn(22, 3, 6, 2)},
        keyed=True,
    ),
    Case("noise.layer_drop", layers_dropped, {"x": drawn(23, 20, 2), "skipped": drawn(24, 20, 2)}, RATE, keyed=True),
    Case("noise.drop_path", noise.drop_path, {"x": drawn(21, 20, 2)}, RATE, keyed=True, variant="row"),
    Case(
        "noise.drop_block",
        lambda x, rate, key: noise.drop_block(x, rate, key=key, block_size=2),
        IMAGES,
        RATE,
        keyed=True,
    ),
    Case("noise.drop_connect", noise.drop_connect, {"params": PARAMS}, RATE, keyed=True),
]

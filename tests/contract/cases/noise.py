"""Cases of `noise`."""

from funcreg import noise
from tests.contract.case import IMAGES, PARAMS, RATE, Case, X, drawn

CASES = [
    Case("noise.dropout", noise.dropout, X, RATE, keyed=True),
    Case("noise.channel_dropout", noise.channel_dropout, {"x": drawn(20, 4, 5, 3)}, RATE, keyed=True),
    Case("noise.alpha_dropout", noise.alpha_dropout, X, RATE, keyed=True),
    Case("noise.gaussian_dropout", noise.gaussian_dropout, X, RATE, keyed=True),
    Case("noise.gaussian_noise", noise.gaussian_noise, X, {"std": (0.0, 0.3, 2.0)}, keyed=True),
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

"""Bad arguments of `noise`."""

import math

import torch

from funcreg import noise
from tests.refusals import IMAGES, INTEGERS, KEY, KEYS, PARAMS, Refusal, X, bad

TOKENS = torch.ones(2, 4, 3)

REFUSALS: list[Refusal] = [
    ("noise.dropout", "x", lambda: noise.dropout(X.to_sparse(), 0.5, key=KEY)),
    ("noise.dropout", "x", lambda: noise.dropout(X.to(torch.float8_e4m3fn), 0.5, key=KEY)),
    ("noise.dropout", "rate", lambda: noise.dropout(X, torch.tensor(0.5).to(torch.float8_e4m3fn), key=KEY)),
    ("noise.dropout", "x", lambda: noise.dropout(INTEGERS, 0.5, key=KEY)),
    ("noise.dropout", "x", lambda: noise.dropout(bad([1.0]), 0.5, key=KEY)),
    ("noise.dropout", "rate", lambda: noise.dropout(X, 1.5, key=KEY)),
    ("noise.dropout", "rate", lambda: noise.dropout(X, bad(None), key=KEY)),
    ("noise.dropout", "rate", lambda: noise.dropout(X, bad(True), key=KEY)),
    ("noise.dropout", "rate", lambda: noise.dropout(X, torch.ones(3), key=KEY)),
    ("noise.dropout", "rate", lambda: noise.dropout(X, torch.tensor(True), key=KEY)),
    ("noise.dropout", "key", lambda: noise.dropout(X, 0.5, key=bad(0))),
    ("noise.dropout", "key", lambda: noise.dropout(X, 0.5, key=KEYS)),
    ("noise.dropout", "key", lambda: noise.dropout(X.to("meta"), 0.5, key=KEY)),
    ("noise.drop_connect", "key", lambda: noise.drop_connect(PARAMS, 0.5, key=bad(None))),
    ("noise.channel_dropout", "x", lambda: noise.channel_dropout(X, 0.5, key=KEY)),
    ("noise.channel_dropout", "rate", lambda: noise.channel_dropout(IMAGES, -0.5, key=KEY)),
    ("noise.alpha_dropout", "rate", lambda: noise.alpha_dropout(X, 2, key=KEY)),
    ("noise.gaussian_dropout", "rate", lambda: noise.gaussian_dropout(X, math.nan, key=KEY)),
    ("noise.gaussian_noise", "std", lambda: noise.gaussian_noise(X, -0.1, key=KEY)),
    ("noise.gaussian_noise", "std", lambda: noise.gaussian_noise(X, torch.ones(2), key=KEY)),
    ("noise.gaussian_noise", "x", lambda: noise.gaussian_noise(INTEGERS, 0.1, key=KEY)),
    ("noise.drop_path", "mode", lambda: noise.drop_path(X, 0.5, key=KEY, mode="column")),
    ("noise.drop_path", "x", lambda: noise.drop_path(torch.tensor(1.0), 0.5, key=KEY)),
    ("noise.drop_block", "block_size", lambda: noise.drop_block(IMAGES, 0.5, key=KEY, block_size=0)),
    ("noise.drop_block", "block_size", lambda: noise.drop_block(IMAGES, 0.5, key=KEY, block_size=bad(2.0))),
    ("noise.drop_block", "x", lambda: noise.drop_block(torch.ones(2, 3, 4, 4, 4, 4), 0.5, key=KEY, block_size=2)),
    ("noise.drop_connect", "params's n", lambda: noise.drop_connect({"n": INTEGERS}, 0.5, key=KEY)),
    ("noise.drop_connect", "mask", lambda: noise.drop_connect(PARAMS, 0.5, key=KEY, mask=lambda name, leaf: False)),
    *(
        (f"noise.{function.__name__}", "key", lambda function=function: function(IMAGES, 0.5, key=KEYS))
        for function in (
            noise.channel_dropout,
            noise.alpha_dropout,
            noise.feature_alpha_dropout,
            noise.gaussian_dropout,
            noise.gaussian_noise,
            noise.drop_path,
        )
    ),
    ("noise.alpha_dropout", "x", lambda: noise.alpha_dropout(INTEGERS, 0.5, key=KEY)),
    ("noise.gaussian_dropout", "x", lambda: noise.gaussian_dropout(INTEGERS, 0.5, key=KEY)),
    ("noise.drop_path", "rate", lambda: noise.drop_path(X, 1.01, key=KEY)),
    ("noise.drop_block", "rate", lambda: noise.drop_block(IMAGES, torch.ones(2), key=KEY, block_size=2)),
    ("noise.drop_block", "key", lambda: noise.drop_block(IMAGES, 0.5, key=KEYS, block_size=2)),
    ("noise.drop_connect", "params", lambda: noise.drop_connect(bad(3), 0.5, key=KEY)),
    ("noise.drop_connect", "rate", lambda: noise.drop_connect(PARAMS, -0.1, key=KEY)),
    ("noise.drop_connect", "params's head.rate", lambda: noise.drop_connect({"head": {"rate": 0.5}}, 0.5, key=KEY)),
    ("noise.feature_alpha_dropout", "x", lambda: noise.feature_alpha_dropout(torch.ones(4), 0.5, key=KEY)),
    ("noise.feature_alpha_dropout", "x", lambda: noise.feature_alpha_dropout(INTEGERS, 0.5, key=KEY)),
    ("noise.feature_alpha_dropout", "rate", lambda: noise.feature_alpha_dropout(IMAGES, 1.5, key=KEY)),
    ("noise.rrelu", "x", lambda: noise.rrelu(INTEGERS, key=KEY)),
    ("noise.rrelu", "lower", lambda: noise.rrelu(X, 0.5, 0.4, key=KEY)),
    ("noise.rrelu", "lower", lambda: noise.rrelu(X, bad("0.1"), key=KEY)),
    ("noise.rrelu", "lower", lambda: noise.rrelu(X, torch.zeros(3), key=KEY)),
    ("noise.rrelu", "upper", lambda: noise.rrelu(X, 0.1, math.inf, key=KEY)),
    ("noise.rrelu", "upper", lambda: noise.rrelu(X, 0.1, math.nan, key=KEY)),
    ("noise.rrelu", "upper", lambda: noise.rrelu(X, 0.1, torch.ones(3), key=KEY)),
    ("noise.rrelu", "key", lambda: noise.rrelu(X, key=KEYS)),
    ("noise.token_dropout", "x", lambda: noise.token_dropout(X, 0.5, key=KEY)),
    ("noise.token_dropout", "x", lambda: noise.token_dropout(TOKENS.long(), 0.5, key=KEY)),
    ("noise.token_dropout", "rate", lambda: noise.token_dropout(TOKENS, 1.5, key=KEY)),
    ("noise.token_dropout", "rate", lambda: noise.token_dropout(TOKENS, bad(torch.tensor(0.5)), key=KEY)),
    ("noise.token_dropout", "prefix", lambda: noise.token_dropout(TOKENS, 0.5, key=KEY, prefix=-1)),
    ("noise.token_dropout", "prefix", lambda: noise.token_dropout(TOKENS, 0.5, key=KEY, prefix=5)),
    ("noise.token_dropout", "prefix", lambda: noise.token_dropout(TOKENS, 0.5, key=KEY, prefix=bad(1.0))),
    ("noise.token_dropout", "key", lambda: noise.token_dropout(TOKENS, 0.5, key=KEYS)),
    ("noise.layer_drop", "x", lambda: noise.layer_drop(INTEGERS, X, 0.5, key=KEY)),
    ("noise.layer_drop", "skipped", lambda: noise.layer_drop(X, INTEGERS, 0.5, key=KEY)),
    ("noise.layer_drop", "skipped", lambda: noise.layer_drop(X, X[:1], 0.5, key=KEY)),
    ("noise.layer_drop", "skipped", lambda: noise.layer_drop(X, bad(0.0), 0.5, key=KEY)),
    ("noise.layer_drop", "rate", lambda: noise.layer_drop(X, X, -0.1, key=KEY)),
    ("noise.layer_drop", "rate", lambda: noise.layer_drop(X, X, torch.ones(2), key=KEY)),
    ("noise.layer_drop", "key", lambda: noise.layer_drop(X, X, 0.5, key=KEYS)),
]

"""Bad arguments of `losses`."""

import torch

from funcreg import losses
from tests.refusals import CLASSES, INTEGERS, Refusal, X, bad

REFUSALS: list[Refusal] = [
    ("losses.cross_entropy", "logits", lambda: losses.cross_entropy(INTEGERS, CLASSES)),
    ("losses.cross_entropy", "logits", lambda: losses.cross_entropy(torch.tensor(1.0), CLASSES)),
    ("losses.cross_entropy", "logits", lambda: losses.cross_entropy(X[:, :0], CLASSES)),
    ("losses.cross_entropy", "targets", lambda: losses.cross_entropy(X, CLASSES.float())),
    ("losses.cross_entropy", "targets", lambda: losses.cross_entropy(X, CLASSES[:2])),
    ("losses.cross_entropy", "targets", lambda: losses.cross_entropy(X, bad([0, 1, 2, 0]))),
    ("losses.cross_entropy", "targets", lambda: losses.cross_entropy(X, CLASSES > 0)),
    ("losses.cross_entropy", "smoothing", lambda: losses.cross_entropy(X, CLASSES, smoothing=1.1)),
    ("losses.cross_entropy", "smoothing", lambda: losses.cross_entropy(X, CLASSES, smoothing=torch.ones(2))),
    ("losses.cross_entropy", "weight", lambda: losses.cross_entropy(X, CLASSES, weight=torch.ones(2))),
    ("losses.cross_entropy", "weight", lambda: losses.cross_entropy(X, CLASSES, weight=bad([1.0, 2.0, 3.0]))),
    ("losses.cross_entropy", "targets", lambda: losses.cross_entropy(X, CLASSES + 1)),
    ("losses.cross_entropy", "targets", lambda: losses.cross_entropy(X, CLASSES - 100, ignore_index=-1)),
    ("losses.cross_entropy", "ignore_index", lambda: losses.cross_entropy(X, CLASSES, ignore_index=bad(0.5))),
    ("losses.cross_entropy", "reduction", lambda: losses.cross_entropy(X, CLASSES, reduction="average")),
    ("losses.binary_cross_entropy", "logits", lambda: losses.binary_cross_entropy(INTEGERS, X)),
    ("losses.binary_cross_entropy", "targets", lambda: losses.binary_cross_entropy(X, X[:2])),
    ("losses.binary_cross_entropy", "targets", lambda: losses.binary_cross_entropy(X, -X)),
    ("losses.binary_cross_entropy", "targets", lambda: losses.binary_cross_entropy(X, 2 * INTEGERS)),
    ("losses.cross_entropy", "targets", lambda: losses.cross_entropy(X, 2 * X)),
    ("losses.binary_cross_entropy", "smoothing", lambda: losses.binary_cross_entropy(X, X, smoothing=-0.1)),
    ("losses.binary_cross_entropy", "weight", lambda: losses.binary_cross_entropy(X, X, weight=torch.ones(2))),
    ("losses.binary_cross_entropy", "weight", lambda: losses.binary_cross_entropy(X, X, weight=INTEGERS)),
    ("losses.binary_cross_entropy", "reduction", lambda: losses.binary_cross_entropy(X, X, reduction=bad(None))),
    ("losses.mse", "predictions", lambda: losses.mse(INTEGERS, X)),
    ("losses.mse", "targets", lambda: losses.mse(X, X[0])),
    ("losses.mse", "reduction", lambda: losses.mse(X, X, reduction="max")),
    ("losses.mae", "targets", lambda: losses.mae(X, bad(1.0))),
    ("losses.mse", "mask", lambda: losses.mse(X, X, mask=X)),
    ("losses.mae", "mask", lambda: losses.mae(X, X, mask=X[0] > 0)),
    ("losses.gaussian_nll", "predictions", lambda: losses.gaussian_nll(INTEGERS, X)),
    ("losses.gaussian_nll", "predictions", lambda: losses.gaussian_nll(X, X)),
    ("losses.gaussian_nll", "targets", lambda: losses.gaussian_nll(X[:, :2], X[:, 0])),
    ("losses.gaussian_nll", "targets", lambda: losses.gaussian_nll(X[:, :2], X)),
    ("losses.gaussian_nll", "targets", lambda: losses.gaussian_nll(X[:, :2], bad(1.0))),
    ("losses.gaussian_nll", "mask", lambda: losses.gaussian_nll(X[:, :2], X[:, :1], mask=bad([True]))),
    ("losses.gaussian_nll", "min_variance", lambda: losses.gaussian_nll(X[:, :2], X[:, :1], min_variance=0.0)),
    ("losses.gaussian_nll", "reduction", lambda: losses.gaussian_nll(X[:, :2], X[:, :1], reduction="max")),
    ("losses.gaussian_nll", "reduction", lambda: losses.gaussian_nll(X[:0, :2], X[:0, :1])),
    ("losses.correlation", "predictions", lambda: losses.correlation(torch.ones(3, 1), torch.ones(3, 1))),
    ("losses.correlation", "reduction", lambda: losses.correlation(X, X, reduction="max")),
    ("losses.spectral_l2", "predictions", lambda: losses.spectral_l2(torch.tensor(1.0), torch.tensor(1.0))),
    ("losses.spectral_l2", "targets", lambda: losses.spectral_l2(X, X[:1])),
    ("losses.accuracy", "targets", lambda: losses.accuracy(X, CLASSES[:1])),
    ("losses.accuracy", "targets", lambda: losses.accuracy(X, CLASSES + 1)),
    *(
        ("losses." + loss.__name__, "reduction", lambda f=loss: f(X[:0], X[:0]))
        for loss in (losses.binary_cross_entropy, losses.mse, losses.mae, losses.correlation, losses.spectral_l2)
    ),
    ("losses.kl_divergence", "logits", lambda: losses.kl_divergence(INTEGERS, X)),
    ("losses.kl_divergence", "logits", lambda: losses.kl_divergence(X[:, :0], X[:, :0])),
    ("losses.kl_divergence", "target_logits", lambda: losses.kl_divergence(X, X[:2])),
    ("losses.kl_divergence", "target_logits", lambda: losses.kl_divergence(X, INTEGERS)),
    ("losses.kl_divergence", "target_logits", lambda: losses.kl_divergence(X, bad(None))),
    ("losses.kl_divergence", "reduction", lambda: losses.kl_divergence(X, X, reduction="batchmean")),
    ("losses.kl_divergence", "reduction", lambda: losses.kl_divergence(X[:0], X[:0])),
    ("losses.mae", "predictions", lambda: losses.mae(INTEGERS, X)),
    ("losses.mae", "reduction", lambda: losses.mae(X, X, reduction="max")),
    ("losses.correlation", "predictions", lambda: losses.correlation(INTEGERS, X)),
    ("losses.correlation", "targets", lambda: losses.correlation(X, X[:2])),
    ("losses.spectral_l2", "reduction", lambda: losses.spectral_l2(X, X, reduction=bad(None))),
    ("losses.accuracy", "logits", lambda: losses.accuracy(INTEGERS, CLASSES)),
    ("losses.accuracy", "logits", lambda: losses.accuracy(X[:, :0], CLASSES)),
    *(
        (f"losses.{loss.__name__}", "targets", lambda loss=loss: loss(X, X.to(torch.complex64)))
        for loss in (losses.binary_cross_entropy, losses.mse, losses.mae, losses.correlation, losses.spectral_l2)
    ),
    ("losses.accuracy", "reduction", lambda: losses.accuracy(X, CLASSES, reduction="max")),
]

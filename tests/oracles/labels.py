"""`labels` against torch, scikit-learn, and an optimum found by scipy."""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

import funcreg as fr
from funcreg import labels
from tests.oracles import Pair, oracle

CLASSES = fr.random.categorical(fr.random.key(0), torch.tensor([0.0, 1.0, 2.0, -1.0, 0.0]).expand(60, 5))
LOGITS = fr.random.normal(fr.random.key(1), (60, 5), dtype=torch.float64)


@oracle("labels.one_hot", against="torch.nn.functional.one_hot", tolerance=0, because="ones and zeros")
def one_hot() -> Pair:
    grid = CLASSES.reshape(3, 20)
    return (labels.one_hot(grid, 7), labels.one_hot(grid.int(), 7, dtype=torch.int64)), (F.one_hot(grid, 7),) * 2


@oracle("labels.one_hot", against="scikit-learn's LabelBinarizer", tolerance=0, because="ones and zeros")
def binarizer() -> Pair:
    return labels.one_hot(CLASSES, 5), torch.from_numpy(LabelBinarizer().fit(range(5)).transform(CLASSES))


@oracle(
    "labels.smooth_labels",
    against="torch.nn.functional.cross_entropy(label_smoothing=): the loss of each example",
    tolerance=1e-14,
    because="float64; the smoothed targets are never formed there",
)
def smooth_labels() -> Pair:
    targets = labels.one_hot(CLASSES, 5, dtype=torch.float64)
    soft = torch.softmax(LOGITS.flip(0), dim=-1)
    ours = [F.cross_entropy(LOGITS, labels.smooth_labels(each, 0.3), reduction="none") for each in (targets, soft)]
    theirs = [F.cross_entropy(LOGITS, each, label_smoothing=0.3, reduction="none") for each in (CLASSES, soft)]
    return ours, theirs


@oracle(
    "labels.optimal_logit_gap",
    against="scipy.optimize.minimize of the smoothed cross-entropy",
    tolerance=1e-6,
    because="where the minimiser stops, on a loss that is flat there",
)
def optimal_logit_gap() -> Pair:
    settings = ((0.1, 10), (0.3, 2), (0.05, 100))
    ours = [labels.optimal_logit_gap(torch.tensor(s, dtype=torch.float64), classes) for s, classes in settings]
    return ours, [_optimum(*each) for each in settings]


def _optimum(smoothing: float, classes: int) -> Tensor:
    """The right logit above the mean of the others, which come out equal."""

    def loss(logits: np.ndarray) -> tuple[float, np.ndarray]:
        tracked = torch.from_numpy(logits).requires_grad_()
        value = F.cross_entropy(tracked[None], torch.tensor([0]), label_smoothing=smoothing)
        return float(value.detach()), torch.autograd.grad(value, tracked)[0].numpy()

    found = minimize(loss, np.linspace(1, 0, classes), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    assert np.ptp(found[1:]) < 1e-5
    return torch.as_tensor(found[0] - found[1:].mean())


@oracle(
    "labels.optimal_logit_gap",
    against="the number for smoothing 0.1 and 10 classes, 4.51",
    tolerance=0.005,
    because="its two decimals",
    constant=True,
)
def the_number() -> Pair:
    return labels.optimal_logit_gap(0.1, 10), 4.51


@oracle(
    "labels.class_weights",
    against='scikit-learn\'s compute_class_weight("balanced")',
    tolerance=1e-6,
    because="float32, of weights up to 6",
)
def class_weights() -> Pair:
    theirs = compute_class_weight("balanced", classes=np.arange(5), y=CLASSES.numpy())
    return labels.class_weights(CLASSES, 5), torch.from_numpy(theirs)

"""Numbers that courses and manuals print, each with where it comes from: what they computed is computed here again.

Neuromatch Academy   its tutorials on regularization, whose seed is 2021: norms of layers before training
NumPy, PyTorch       their manuals' pages on broadcasting
Szegedy et al.       "Rethinking the Inception architecture", 2016, section 7: smoothed labels
Müller et al.        "When does label smoothing help?", 2019: the gap of the logits
exercises            on stopped gradients and on patience, as the rows of the lab have them
"""

import itertools

import pytest
import torch
from torch import Tensor, nn

import funcreg as fr

SEED = 2021  # Neuromatch's


def seeded(*widths: int) -> dict[str, Tensor]:
    """The parameters of linear layers as a fresh process has them after torch.manual_seed(2021)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
    return fr.variables(nn.Sequential(*layers))[0]


def test_l1_of_a_linear_layer() -> None:
    # Neuromatch, "L1 regularization": l1_reg(nn.Linear(20, 20)), the bias counted in.
    assert float(fr.penalties.l1(seeded(20, 20), 1.0)) == pytest.approx(48.445133209228516, rel=1e-6)


def test_frobenius_norm_of_a_linear_layer() -> None:
    # Neuromatch, "Frobenius norm": calculate_frobenius_norm(nn.Linear(10, 1)), weight and bias together.
    assert float(fr.tree.norm(seeded(10, 1))) == pytest.approx(0.6572162508964539, rel=1e-6)


def test_initial_norm_of_the_animal_network() -> None:
    # Neuromatch's AnimalNet, 3072-128-32-3, before training: weights and biases of all layers together. 7.380968 is
    # what torch.norm gives in float32, whose rounding over 397,000 numbers is the difference from the exact 7.380982.
    params = seeded(3 * 32 * 32, 128, 32, 3)
    exact = fr.tree.norm(fr.tree.cast(params, torch.float64))
    assert float(exact) == pytest.approx(7.380981751105463, rel=1e-12)
    rounded = torch.stack([torch.linalg.vector_norm(leaf) for leaf in params.values()]).norm()
    assert float(rounded) == pytest.approx(7.380968, abs=2e-5)
    assert float(fr.tree.norm(params)) == pytest.approx(7.380968, abs=2e-5)


def test_gradient_with_and_without_one_branch_stopped() -> None:
    # An exercise on gradient flow: (wx)^2 + (wx)^2 at w = 2, x = 3 has the derivative 4wx^2 by w; one branch, half.
    def loss(w: Tensor, stopped: bool) -> Tensor:
        branch = (w * 3) ** 2
        return branch + (branch.detach() if stopped else branch)

    gradient = torch.func.grad(loss)
    assert float(gradient(torch.tensor(2.0), False)) == 72.0
    assert float(gradient(torch.tensor(2.0), True)) == 36.0


def test_smoothed_label_of_the_true_class() -> None:
    # Szegedy et al.: (1 - s) y + s / K, which is 0.91 for 10 classes and s = 0.1, and 0.01 for every other.
    smoothed = fr.labels.smooth_labels(fr.labels.one_hot(torch.tensor([3]), 10, dtype=torch.float64), 0.1)
    expected = torch.full((1, 10), 0.01, dtype=torch.float64)
    expected[0, 3] = 0.91
    torch.testing.assert_close(smoothed, expected, rtol=0, atol=1e-15)


def test_gaps_of_the_logits() -> None:
    # Müller, Kornblith and Hinton, "When does label smoothing help?", 2019, give s to the other K - 1 classes:
    # log((1 - s)(K - 1) / s) = 4.39. With s / K for each, as torch has it, it is 4.51.
    assert float(fr.labels.optimal_logit_gap(0.1, 10)) == pytest.approx(4.51, abs=0.005)
    others = torch.log(torch.tensor(0.9 * 9 / 0.1, dtype=torch.float64))
    assert float(others) == pytest.approx(4.39, abs=0.005)


def test_epoch_at_which_patience_ends() -> None:
    # An exercise of nine losses, patience 3 and min_delta 0.01: the last improvement is epoch 5's 1.1.
    stopping = fr.train.early_stopping(patience=3, min_delta=0.01)
    state = stopping.init()
    stopped = []
    for epoch, loss in enumerate((2.5, 2.0, 1.5, 1.2, 1.1, 1.15, 1.18, 1.20, 1.22), start=1):
        state = stopping.update(state, torch.tensor(loss))
        stopped += [epoch] if bool(state.stopped) else []
    assert stopped[0] == 8


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [
        # NumPy's manual, "Broadcasting": the table of shapes that fit, and those that do not.
        ((256, 256, 3), (3,), (256, 256, 3)),
        ((8, 1, 6, 1), (7, 1, 5), (8, 7, 6, 5)),
        ((5, 4), (1,), (5, 4)),
        ((5, 4), (4,), (5, 4)),
        ((15, 3, 5), (15, 1, 5), (15, 3, 5)),
        ((15, 3, 5), (3, 5), (15, 3, 5)),
        ((15, 3, 5), (3, 1), (15, 3, 5)),
        ((3,), (4,), None),
        ((2, 1), (8, 4, 3), None),
        # PyTorch's manual, "Broadcasting semantics".
        ((5, 7, 3), (5, 7, 3), (5, 7, 3)),
        ((5, 3, 4, 1), (3, 1, 1), (5, 3, 4, 1)),
        ((5, 2, 4, 1), (3, 1, 1), None),
        ((5, 1, 4, 1), (3, 1, 1), (5, 3, 4, 1)),
        ((1,), (3, 1, 7), (3, 1, 7)),
    ],
)
def test_shapes_that_fit(first: tuple[int, ...], second: tuple[int, ...], result: tuple[int, ...] | None) -> None:
    if result is None:
        with pytest.raises(RuntimeError, match="must match the size"):
            torch.add(torch.zeros(first), torch.zeros(second))
    else:
        assert (torch.zeros(first) + torch.zeros(second)).shape == result

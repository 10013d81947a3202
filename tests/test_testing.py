"""The six rules as checks: planted faults are named by their rule, and what is right raises no alarm."""

import math
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import hypothesis
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

import funcreg as fr
from funcreg.testing import strategies
from tests import right
from tests.faults import Fault
from tests.public import tables

FAULTS: list[Fault] = [row for table in tables("tests.faults").values() for row in table.FAULTS]
KEY, X = fr.random.key(0), torch.tensor([[0.5, -1.5, 2.0], [1.0, 0.25, -0.75]])
PARAMS = {"weight": X, "bias": torch.tensor([0.1, -0.2])}


def broken(error: AssertionError) -> set[str]:
    """The rules that a message names."""
    return set(re.findall(r"^  ([a-z0-9 ]+?): ", str(error), flags=re.MULTILINE))


@pytest.mark.parametrize(
    ("rule", "call"), [(rule, call) for rule, _, call in FAULTS], ids=[f"{rule}: {what}" for rule, what, _ in FAULTS]
)
def test_a_planted_fault_is_named_by_its_rule_and_no_other(rule: str, call: Callable[[], None]) -> None:
    with pytest.raises(AssertionError) as caught:
        call()
    message = str(caught.value)
    if " breaks " in message.splitlines()[0]:
        assert broken(caught.value) == {rule}, message
    else:
        assert rule in message


def test_every_rule_has_a_fault() -> None:
    assert len(FAULTS) >= 60
    assert {each.rule for each in fr.testing.report(torch.sin, X).findings} <= {rule for rule, _, _ in FAULTS}


@pytest.mark.parametrize("name", right.FUNCTIONAL)
def test_torchs_pure_functions_raise_no_alarm(name: str) -> None:
    function, args, kwargs = right.FUNCTIONAL[name]
    fr.testing.check(function, *args, **kwargs)


@pytest.mark.parametrize("name", right.OTHERS)
def test_what_functions_take_and_give_raises_no_alarm(name: str) -> None:
    function, args, kwargs = right.OTHERS[name]
    fr.testing.check(function, *args, **kwargs)


@pytest.mark.parametrize("name", right.LOSSES)
def test_torchs_losses_raise_no_alarm(name: str) -> None:
    function, args, kwargs = right.LOSSES[name]
    fr.testing.check_loss(function, *args, **kwargs)


@pytest.mark.parametrize("name", right.OPTIMIZERS)
def test_optimizers_by_hand_raise_no_alarm(name: str) -> None:
    make, how = right.OPTIMIZERS[name]
    fr.testing.check_optimizer(make, PARAMS, **how)


PICTURES = fr.random.uniform(fr.random.key(2), (4, 3, 8, 8))
# Deterministic, and of tensors alone.
TORCHVISION: dict[str, Callable[[Tensor], Tensor]] = {
    "horizontal_flip": TF.horizontal_flip,
    "vertical_flip": TF.vertical_flip,
    "rotate": lambda x: TF.rotate(x, 30.0),
    "affine": lambda x: TF.affine(x, 10.0, [1, 1], 1.1, [2.0, 3.0]),
    "perspective": lambda x: TF.perspective(x, [[0, 0], [7, 0], [7, 7], [0, 7]], [[1, 0], [7, 1], [6, 7], [0, 6]]),
    "crop": lambda x: TF.crop(x, 1, 2, 4, 5),
    "center_crop": lambda x: TF.center_crop(x, [4, 4]),
    "pad": lambda x: TF.pad(x, [1, 2]),
    "gaussian_blur": lambda x: TF.gaussian_blur(x, [3, 3]),
    "normalize": lambda x: TF.normalize(x, [0.5] * 3, [0.5] * 3),
    "adjust_brightness": lambda x: TF.adjust_brightness(x, 1.3),
    "adjust_contrast": lambda x: TF.adjust_contrast(x, 0.7),
    "adjust_saturation": lambda x: TF.adjust_saturation(x, 1.5),
    "adjust_gamma": lambda x: TF.adjust_gamma(x + 0.1, 0.8),
    "invert": TF.invert,
    "solarize": lambda x: TF.solarize(x, 0.5),
    "rgb_to_grayscale": TF.rgb_to_grayscale,
    "elastic": lambda x: TF.elastic(x, torch.linspace(-0.1, 0.1, 128).reshape(1, 8, 8, 2)),
    "erase": lambda x: TF.erase(x, 1, 1, 2, 3, torch.zeros((), dtype=x.dtype)),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_deterministic_functions_raise_no_alarm(name: str) -> None:
    fr.testing.check(TORCHVISION[name], PICTURES)


TRUE_ALARMS: dict[str, tuple[str, Callable[[], None]]] = {
    "the exponential overflows": (
        "large predictions",
        lambda: fr.testing.check_loss(F.soft_margin_loss, X, torch.tensor([[1.0], [-1.0]]).expand(2, 3)),
    ),
    "asks for a layout that vmap does not know": (
        "vmap", lambda: fr.testing.check(lambda x: TF.resize(x, [5, 6]), PICTURES)
    ),
    "writes into what its gradient needs": (
        "finite", lambda: fr.testing.check(lambda x: TF.adjust_sharpness(x, 2.0), PICTURES)
    ),
    "its rate may be no batched tensor": (
        "settings", lambda: fr.testing.check(F.leaky_relu, X, batched={"negative_slope": (0.0, 0.1, 0.2)})
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRUE_ALARMS)
def test_what_is_wrong_with_other_peoples_functions_is_found(name: str) -> None:
    rule, call = TRUE_ALARMS[name]
    with pytest.raises(AssertionError) as caught:
        call()
    assert broken(caught.value) == {rule}


def test_our_own_of_each_kind_raise_no_alarm() -> None:
    fr.testing.check_transform(
        lambda max_norm: fr.transforms.clip_by_global_norm(max_norm), PARAMS, batched={"max_norm": (0.0, 1.0, 9.0)}
    )
    fr.testing.check_transform(
        lambda std, key: fr.transforms.add_noise(std, key=key), PARAMS, key=KEY, batched={"std": (0.0, 0.1, 1.0)}
    )
    optimizers = (fr.optim.sgd, fr.optim.adam, fr.optim.adamw, fr.optim.rmsprop)
    for make in optimizers:
        fr.testing.check_optimizer(lambda lr, make=make: make(lr), PARAMS, batched=right.LR)
    fr.testing.check_optimizer(fr.transforms.master_weights(fr.optim.adam(0.05)), PARAMS, dtype="widened")
    smoothed = {"smoothing": (0.0, 0.1, 0.5)}
    fr.testing.check_loss(fr.losses.cross_entropy, X, torch.tensor([2, 0]), batched=smoothed)
    fr.testing.check_loss(fr.losses.binary_cross_entropy, X, X.flip(0).sigmoid(), batched=smoothed)
    for loss in (fr.losses.mse, fr.losses.mae):
        fr.testing.check_loss(loss, X, X.flip(0) / 2)
    for penalty in (fr.penalties.l1, fr.penalties.l2, fr.penalties.group_lasso, fr.penalties.orthogonality):
        fr.testing.check_penalty(penalty, {"weight": X})
    fr.testing.check_penalty(
        lambda x, strength, *, key: fr.penalties.jacobian(lambda x: x.tanh() ** 2, x, strength, key=key), X, key=KEY
    )
    for augmentation in (fr.augment.flip, partial(fr.augment.cutout, size=3)):
        fr.testing.check_augmentation(augmentation, PICTURES, key=KEY, uint8=True)
    fr.testing.check_augmentation(
        fr.augment.mixup, PICTURES, torch.eye(4), key=KEY, batched={"alpha": (0.1, 0.4, 1.0)}, mixes=True
    )
    rotated = fr.testing.example(fr.augment.rotate, PICTURES, key=KEY, batched={"degrees": (0.0, 30.0, 90.0)})
    assert rotated.names == ("images", "degrees", "key")


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (
            lambda: nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 2)),
            (6, 3),
        ),
        (lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.GroupNorm(3, 3), nn.GELU(), nn.Dropout2d(0.4)), (2, 2, 5, 5)),
        (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(3, 2)), (4, 3)),
        (Attends, (2, 3, 4)),
        (nn.Identity, (2, 3)),
    ],
    ids=["mlp", "cnn", "spectral norm", "attention", "identity"],
)
def test_modules_raise_no_alarm(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    fr.testing.check_module(make(), right.drawn(20, *shape))


def test_a_report_says_for_each_rule_whether_it_held() -> None:
    found = fr.testing.report(lambda x, rate: x * float(rate), X, batched={"rate": (0.1, 0.2, 0.3)})
    assert found.broken == ("settings",)
    states = {each.rule: "broken" if each.broken else "-" if each.unasked else "held" for each in found.findings}
    lines = str(found).splitlines()
    assert lines[0] == "<lambda>"
    assert [re.split(r"\s{2,}", line.strip())[:2] for line in lines[1:]] == [list(pair) for pair in states.items()]
    assert states["key"] == states["compiled"] == "-"


def test_the_evidence_says_what_where_and_by_how_much() -> None:
    said = []
    cases: tuple[tuple[Callable[..., Any], dict[str, Any]], ...] = (
        (lambda x: x.mul_(2), {}),
        (lambda x: x + torch.rand(3), {}),
        (lambda x, *, key: x, {"key": KEY}),
        (lambda x: x.square().sum().sqrt(), {"x": torch.zeros(2)}),
        (lambda x, one, two: x * one + float(two), {"batched": {"one": (0.0, 1.0), "two": (0.5, 1.0)}}),
        (lambda x: {"a": x, "b": (x, x.double())}, {}),
    )
    for function, how in cases:
        report = fr.testing.report(function, *([] if "x" in how else [X]), **how)
        said += [line for each in report.findings for line in each.broken]
    for words in (
        "x was written into: [0, 2]: got 4, expected 2 (by 2; 6 of 6 elements differ)",
        "torch's generator is not as it was",
        "the key does not matter: 8 others give the same result",
        "the gradient of x[0] is nan",
        "two: cannot be batched: ",
        "result.b.1 is float64 for float32 inputs, not float32",
    ):
        assert any(words in line for line in said), (words, said)


def test_what_is_given_to_a_check_stays_as_it_is() -> None:
    layer, x, generator = nn.BatchNorm1d(3), X.clone(), torch.get_rng_state()
    settings = torch.get_default_dtype(), torch.is_grad_enabled()
    for function in (torch.Tensor.zero_, layer, lambda x: x + torch.rand(3)):
        assert fr.testing.report(function, x).broken
    assert torch.equal(x, X)
    assert torch.equal(torch.get_rng_state(), generator)
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == settings


def test_a_call_and_others_like_it() -> None:
    probabilities = torch.tensor([[0.2, 0.8], [1.0, 0.0]])
    made = fr.testing.example(
        lambda p, mode, n, rate, *, key: None, probabilities, "row", torch.tensor(3), 0.4, key=KEY, batched={"rate"}
    )
    assert made.names == ("p", "mode", "n", "rate", "key")
    members = [dict(zip(made.names, made.member(member), strict=True)) for member in range(made.members)]
    torch.testing.assert_close(members[made.base]["p"], probabilities)
    for each in members:
        torch.testing.assert_close(each["p"].sum(1), torch.ones(2))
        assert (each["mode"], int(each["n"])) == ("row", 3)
    assert [round(float(each["rate"]), 3) for each in members] == [0.2, 0.4, 0.3]
    assert (
        len({tuple(each["key"].tolist()) for each in members}) == len({float(each["p"][0, 0]) for each in members}) == 3
    )


@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_trees_are_close_where_torch_says_so(dtype: torch.dtype) -> None:
    """Against torch.testing, one element apart by ever more."""
    one = torch.tensor([0, 1, 2, 100]).to(dtype)
    for step in (0.0, 1e-9, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1.0, math.nan, math.inf):
        if not dtype.is_floating_point and step not in (0.0, 1.0):
            continue
        other = one + torch.tensor([0, step, 0, step]).to(dtype)
        try:
            torch.testing.assert_close(one, other, equal_nan=True)
        except AssertionError:
            with pytest.raises(AssertionError, match=r"w\.0\[[13]\]: got "):
                fr.testing.assert_trees_close({"w": (one,)}, {"w": (other,)})
        else:
            fr.testing.assert_trees_close({"w": (one,)}, {"w": (other,)})
        if torch.equal(one, other):
            fr.testing.assert_trees_equal((one, other), (other, one))


def test_trees_that_differ_say_how() -> None:
    close, equal = fr.testing.assert_trees_close, fr.testing.assert_trees_equal
    for check, one, other, words in (
        (close, {"a": X}, {"a": X.double()}, r"a: dtype: got float32, expected float64"),
        (close, {"a": X}, {"a": X[:1]}, r"a: shape: got \(2, 3\), expected \(1, 3\)"),
        (close, {"a": X}, {"b": X}, r"missing \['b'\], extra \['a'\]"),
        (close, (1.0, "x"), (1.0, "y"), r"1: got 'x' \(str\), expected 'y'"),
        (equal, X, X + 1e-7, r"got .*\(by \d"),
        (equal, torch.tensor([2**53]), torch.tensor([2**53 + 1]), r"\[0\]: got 9007199254740992, expected"),
        (equal, {"a": 1.0}, {"a": 2.0}, r"a: got 1, expected 2 \(by 1"),
    ):
        with pytest.raises(AssertionError, match=words):
            check(one, other)
    nan = torch.tensor([math.nan, math.inf, -0.0])
    equal({"a": [nan, None, "x"]}, {"a": [nan.clone(), None, "x"]})
    close(X, X + 0.1, rtol=0.0, atol=0.2)


def test_a_step_compiles_once_and_a_fit_that_is_killed_goes_on(tmp_path: object) -> None:
    model = fr.from_module(lambda: nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)))

    def loss_fn(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        logits, state = model.apply(params, state, batch.x, key=key, train=True, rates=hparams["rate"])
        return fr.losses.cross_entropy(logits, batch.y), (state, {})

    optimizer, hparams = (lambda hparams: fr.optim.adam(hparams["lr"])), {"rate": 0.3, "lr": 0.1}
    first = fr.train.init(*model.init(KEY), optimizer, key=KEY, hparams=hparams)
    step = fr.train.make_step(loss_fn, optimizer)
    data = fr.train.Batch(right.drawn(21, 12, 3), torch.arange(12) % 2)
    second = step(first, data, hparams)[0]
    fr.testing.assert_compiles_once(step, (first, data, hparams), (second, data, {"rate": 0.1, "lr": 0.01}))
    fr.testing.assert_resumes(
        lambda path, on_epoch: fr.train.fit(
            step, first, data, key=KEY, epochs=3, batch_size=4, hparams=hparams, jit=False, checkpoint=path,
            on_epoch=on_epoch, progress=False,
        ),
        after=(1, 2, 3),
    )  # fmt: skip


def test_many_functions_are_compiled_as_one_program() -> None:
    right_ones = [
        fr.testing.example(fr.noise.dropout, X, key=KEY, batched={"rate": (0.0, 0.3, 1.0)}),
        fr.testing.example(fr.penalties.l2, PARAMS, batched={"strength": (0.0, 0.1)}),
    ]
    fr.testing.check_compiled(*right_ones)
    wrong = fr.testing.example(lambda x: x + float(torch.compiler.is_compiling()), X)
    with pytest.raises(AssertionError, match=r"compiled and eager differ:\n  <lambda>: \[0, 0, 0\]: got 1") as caught:
        fr.testing.check_compiled(*right_ones, wrong)
    assert "dropout" not in str(caught.value)


@hypothesis.given(strategies.keys(), strategies.rates(), strategies.tensors((2, 3), [torch.float32, torch.bfloat16]))
def test_strategies_give_what_dropout_takes(key: Tensor, rate: Any, x: Tensor) -> None:
    assert 0.0 <= float(rate) <= 1.0
    dropped = fr.noise.dropout(x, rate, key=key)
    assert (dropped.shape, dropped.dtype) == (x.shape, x.dtype)
    assert bool(x.isfinite().all())


@hypothesis.given(strategies.tensors(), strategies.trees(), strategies.shapes(min_dims=1, max_dims=2, min_side=2))
def test_strategies_keep_to_their_bounds(x: Tensor, of: Any, shape: tuple[int, ...]) -> None:
    assert x.dtype in strategies.DTYPES
    fr.testing.assert_trees_equal(fr.tree.clone(of), of)
    assert all(2 <= side <= 4 for side in shape)
    assert 1 <= len(shape) <= 2


BOUNDS = [(0.3, 0.7), (0.1, None), (None, -1), (300, None), (-1e6, 1e6), (1e5, 1e6), (0.0, 0.0)]


def test_a_strategy_of_what_does_not_exist_is_refused() -> None:
    for argument, make in {
        "shape": lambda: strategies.tensors("x"), "shape[0]": lambda: strategies.tensors((-1,)),
        "dtypes": lambda: strategies.tensors(dtypes=[]), "low": lambda: strategies.tensors(low=math.nan),
        "high": lambda: strategies.tensors(low=2, high=1), "leaves": lambda: strategies.trees(3),
        "max_leaves": lambda: strategies.trees(max_leaves=0), "max_dims": lambda: strategies.shapes(max_dims=-1),
    }.items():  # fmt: skip
        with pytest.raises(fr.FuncregError, match=re.escape(f"{argument}: got")):
            make()


@pytest.mark.parametrize(("low", "high"), BOUNDS)
@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_bounds_are_kept_in_every_dtype(dtype: torch.dtype, low: float | None, high: float | None) -> None:
    """Or no number of the dtype is within, which is said."""
    least, most = (-math.inf if low is None else low), (math.inf if high is None else high)
    wide = torch.tensor([*range(-200, 400), 2**17, 0.5, 0.125], dtype=torch.float64)
    among = [each for each in wide.tolist() if least <= each <= most and float(torch.tensor(each).to(dtype)) == each]
    if not among:
        with pytest.raises(fr.FuncregError, match="low: got"):
            strategies.tensors((3,), [dtype], low=low, high=high)
        return

    @hypothesis.settings(max_examples=15, phases=[hypothesis.Phase.generate], database=None)
    @hypothesis.given(strategies.tensors((3,), [dtype], low=low, high=high))
    def draw(x: Tensor) -> None:
        assert x.dtype == dtype
        assert bool(((x.double() >= least) & (x.double() <= most) & x.double().isfinite()).all())

    draw()


@pytest.mark.parametrize("dtype", strategies.DTYPES)
def test_every_dtype_is_tried_with_its_awkward_values(dtype: torch.dtype) -> None:
    few = hypothesis.settings(max_examples=40, phases=[hypothesis.Phase.generate], database=None)
    seen: list[Tensor] = []

    @few
    @hypothesis.given(strategies.tensors((8,), [dtype], finite=False), strategies.tensors((8,), [dtype], low=0, high=1))
    def draw(x: Tensor, bounded: Tensor) -> None:
        assert x.dtype == bounded.dtype == dtype
        assert bool(((bounded >= 0) & (bounded <= 1)).all())
        seen.append(x)

    draw()
    values = torch.cat(seen)
    if dtype.is_floating_point:
        assert bool((values == torch.finfo(dtype).max).any())
        assert bool(values.isnan().any())
        assert bool(values.isinf().any())
    elif dtype != torch.bool:
        assert bool((values == torch.iinfo(dtype).min).any())
    assert bool((values == 0).any())


def test_neither_pytest_nor_hypothesis_is_imported_with_funcreg() -> None:
    program = "import sys, torch, funcreg as fr; fr.testing.check(torch.sin, torch.ones(2), gradients=False); "
    program += "print({name.split('.')[0] for name in sys.modules} & {'pytest', 'hypothesis', 'numpy.testing'})"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_without_hypothesis_a_strategy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    for make in (strategies.keys, strategies.shapes, strategies.tensors, strategies.trees, strategies.rates):
        with pytest.raises(fr.FuncregError, match="pip install hypothesis"):
            make()

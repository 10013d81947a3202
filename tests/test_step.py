"""What a step can do beside its update: constraints, a gradient for each example, and runs to differentiate through."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import grad, grad_and_value, jvp, vmap

import funcreg as fr
from funcreg import FuncregError, constraints, noise, optim, penalties, random, sharpness, train, transforms, tree
from funcreg.train import Batch

untyped: Any = train  # for arguments that pyright would refuse too
needs_compiler = pytest.mark.skipif(not fr.can_compile(), reason="needs a C++ compiler")
KEY = random.key(0)


def draw(seed: int, *shape: int) -> Tensor:
    return random.normal(random.key(100 + seed), shape, dtype=torch.float64)


X = draw(0, 12, 3)
DATA = Batch(X, torch.sin(X.sum(dim=1)))
PARAMS = {"inner.weight": draw(1, 3, 4), "inner.bias": draw(2, 4), "outer.weight": draw(3, 4)}


def predict(params, x):
    return torch.tanh(x @ params["inner.weight"] + params["inner.bias"]) @ params["outer.weight"]


def loss_fn(params, state, batch, *, key, hparams):
    """With dropout, where hparams have a rate, so that each example's key shows."""
    x = noise.dropout(batch.x, hparams["rate"], key=key) if hparams and "rate" in hparams else batch.x
    error = predict(params, x) - batch.y
    return (error**2).mean(), (state, {"error": error.abs().mean()})


def start(optimizer: Any, hparams: Any = None, state: Any = None) -> train.TrainState:
    return train.init(PARAMS, {} if state is None else state, optimizer, key=KEY, hparams=hparams)


def same_bits(one: tree.Tree, other: tree.Tree) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tree.leaves(one), tree.leaves(other), strict=True))


def assert_close(actual: tree.Tree, expected: tree.Tree, tolerance: float = 1e-12) -> None:
    tree.map(lambda a, b: torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance), actual, expected)


# Constraints


def test_a_constraint_comes_after_the_update() -> None:
    def capped(params, hparams):
        return constraints.max_norm(params, hparams["most"], mask=lambda name, leaf: name == "inner.weight", dim=1)

    hparams = {"most": 0.5}
    step, free = (train.make_step(loss_fn, optim.sgd(0.5), constraint=each) for each in (capped, None))
    expected, _ = free(start(optim.sgd(0.5)), DATA, hparams)
    result, metrics = step(start(optim.sgd(0.5)), DATA, hparams)
    assert_close(result.params, capped(expected.params, hparams), 0.0)
    assert not same_bits(result.params, expected.params)
    assert same_bits(result.opt_state, expected.opt_state)
    assert torch.equal(metrics["param_norm"], tree.norm(result.params))
    # Members, each with its own.
    points = {"most": torch.tensor([0.1, 0.5, 100.0])}
    batched, _ = vmap(step, in_dims=(0, None, 0))(tree.stack([start(optim.sgd(0.5))] * 3), DATA, points)
    for member in range(3):
        alone, _ = step(start(optim.sgd(0.5)), DATA, tree.index(points, member))
        assert_close(tree.index(batched.params, member), alone.params)
    assert_close(tree.index(batched.params, 2), expected.params)


# A gradient for each example


def clipped(hparams: Any) -> transforms.Transform:
    return transforms.chain(transforms.clip_per_example(hparams["most"]), optim.sgd(1.0))


EACH = train.make_step(loss_fn, clipped, per_example=True)
HPARAMS = {"most": 3.0, "rate": 0.5}


def test_each_example_is_a_batch_of_one_with_a_key_of_its_own() -> None:
    key, noise_key = random.split(KEY)
    keys, slopes, values, errors = random.split(noise_key, 12), [], [], []
    for number in range(12):
        example = tree.map(lambda leaf, number=number: leaf[number : number + 1], DATA)

        def alone(params: Any, example: Batch = example, number: int = number) -> Any:
            return loss_fn(params, {}, example, key=keys[number], hparams=HPARAMS)

        slope, (value, (_, metrics)) = grad_and_value(alone, has_aux=True)(PARAMS)
        slopes.append(slope)
        values.append(value)
        errors.append(metrics["error"])
    result, metrics = EACH(start(clipped, HPARAMS), DATA, HPARAMS)
    sizes = torch.stack([tree.norm(slope) for slope in slopes])
    assert (sizes > 3).any()
    assert (sizes < 3).any()
    shares = (3 / (sizes + 1e-6)).clamp(max=1.0) / 12
    expected = tree.map(lambda w, *g: w - (torch.stack(g) * shares.view(-1, *[1] * w.ndim)).sum(0), PARAMS, *slopes)
    assert_close(result.params, expected)
    assert torch.equal(result.key, key)
    mean = tree.map(lambda *g: torch.stack(g).mean(0), *slopes)
    assert_close(
        [metrics["loss"], metrics["error"], metrics["grad_norm"]],
        [torch.stack(values).mean(), torch.stack(errors).mean(), tree.norm(mean)],
    )


def test_a_large_limit_gives_the_gradient_of_the_mean_loss() -> None:
    each, metrics = EACH(start(clipped, {"most": 1e9}), DATA, {"most": 1e9})
    whole, expected = train.make_step(loss_fn, optim.sgd(1.0))(start(optim.sgd(1.0)), DATA)
    assert_close(each.params, whole.params)
    assert_close(metrics, expected)
    one = tree.map(lambda leaf: leaf[:1], DATA)
    single, _ = EACH(start(clipped, {"most": 1e9}), one, {"most": 1e9})
    assert_close(single.params, train.make_step(loss_fn, optim.sgd(1.0))(start(optim.sgd(1.0)), one)[0].params)


def test_members_clip_each_at_their_own() -> None:
    points = {"most": torch.tensor([0.1, 0.5, 3.0]), "rate": torch.tensor([0.0, 0.3, 0.5])}
    states = tree.stack([start(clipped, HPARAMS)._replace(key=random.key(member)) for member in range(3)])
    batched = vmap(EACH, in_dims=(0, None, 0))(states, DATA, points)
    for member in range(3):
        alone = EACH(tree.index(states, member), DATA, tree.index(points, member))
        assert_close(tree.index(batched, member), alone)


def test_sam_takes_the_worst_neighbour_of_each_example() -> None:
    sharp = sharpness.sam(loss_fn, 0.2)
    step = train.make_step(sharp, clipped, per_example=True)
    result, _ = step(start(clipped, {"most": 1e9}), DATA, {"most": 1e9})
    slopes = [
        grad(lambda params, n=n: sharp(params, {}, Batch(X[n : n + 1], DATA.y[n : n + 1]), key=KEY, hparams={})[0])(
            PARAMS
        )
        for n in range(12)
    ]
    assert_close(result.params, tree.map(lambda w, *g: w - torch.stack(g).mean(0), PARAMS, *slopes))


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(1, 2, 2), nn.BatchNorm1d(2), nn.Flatten(), nn.Linear(4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.unsqueeze(1))[:, 0]


class Centred(nn.Module):
    centre: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.ones(3))
        self.head = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x - self.centre)[:, 0]


def states(make: Any, train_mode: bool, jit: bool = False, members: int | None = None) -> Any:
    """A network's state before and after a step with a gradient for each example."""
    model = fr.from_module(make)
    params, state = (tree.cast(each, torch.float64) for each in model.init(KEY))

    def loss_fn(params, state, batch, *, key, hparams):
        output, state = model.apply(params, state, batch.x, train=train_mode)
        return ((output - batch.y) ** 2).mean(), (state, {})

    optimizer = transforms.chain(transforms.clip_per_example(1.0), optim.sgd(0.1))
    step = train.make_step(loss_fn, optimizer, per_example=True)
    begin = train.init(params, state, optimizer, key=KEY)
    if members is not None:
        begin = tree.stack([begin] * members)
        step = vmap(step, in_dims=(0, None))
    return begin.state, (fr.jit(step) if jit else step)(begin, DATA)[0].state


@pytest.mark.parametrize("members", [None, 2])
def test_state_that_examples_do_not_change_comes_back(members: int | None) -> None:
    """In the first call of a model it comes back as a copy."""
    for make, mode in ((Normed, False), (Centred, True)):
        before, after = states(make, mode, members=members)
        assert same_bits(before, after)


@needs_compiler
@pytest.mark.parametrize("members", [None, 2])
def test_state_comes_back_compiled(members: int | None, request: pytest.FixtureRequest) -> None:
    if members is None:
        request.getfixturevalue("captured")
    before, after = states(Centred, True, True, members)
    assert same_bits(before, after)


@pytest.mark.parametrize("members", [None, 2])
def test_batch_statistics_have_no_gradient_of_one_example(members: int | None) -> None:
    with pytest.raises(
        FuncregError, match=r"loss_fn's state: got another body\.1\.running_mean for each example.*train=False"
    ):
        states(Normed, True, members=members)


@needs_compiler
def test_batch_statistics_are_refused_when_compiled_too() -> None:
    with pytest.raises(Exception, match=r"another body\.1\.running_mean for each example"):
        states(Normed, True, jit=True)


def test_state_may_change_with_the_parameters() -> None:
    def counting(params, state, batch, *, key, hparams):
        return loss_fn(params, {"calls": state["calls"] + 1, "norm": tree.norm(params)}, batch, key=key, hparams={})

    step = train.make_step(counting, clipped, per_example=True)
    begin = start(clipped, HPARAMS, {"calls": torch.tensor(3), "norm": torch.zeros(()).double()})
    after, _ = step(begin, DATA, HPARAMS)
    assert after.state["calls"] == 4
    assert_close(after.state["norm"], tree.norm(PARAMS))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: train.make_step(loss_fn, optim.adam(0.1), per_example=True),
            r"grads's inner\.bias: got .* \(12, 4\); .*\(4,\).*clip_per_example, first in the chain",
        ),
        (
            lambda: train.make_step(loss_fn, transforms.clip_per_example(1.0)),
            r"grads's inner\.bias: got .*shape \(4,\); expected an axis of examples.*per_example=True",
        ),
        (
            lambda: train.make_step(loss_fn, optim.adam(0.1), constraint=lambda params, hparams: {"inner.bias": X}),
            r"constraint: got a return of a dict of \['inner\.bias'\]; expected a tree like the parameters",
        ),
        (
            lambda: train.make_step(
                loss_fn, optim.adam(0.1), constraint=lambda p, h: p | {"inner.bias": p["inner.bias"][:2]}
            ),
            r"constraint's inner\.bias: got .*shape \(2,\); expected a tensor of shape \(4,\)",
        ),
        (lambda: untyped.make_step(loss_fn, optim.adam(0.1), constraint=0.5), "constraint: got 0.5"),
        (lambda: untyped.make_step(loss_fn, optim.adam(0.1), per_example="yes"), "per_example: got 'yes'"),
    ],
)
def test_what_does_not_fit_is_named(make, message: str) -> None:
    with pytest.raises(FuncregError, match=message):
        make()(start(optim.adam(0.1)), DATA)


# What a loss_fn returns, and what it is given


def returning(metrics: Any) -> Any:
    def loss(params: Any, state: Any, batch: Any, *, key: Any, hparams: Any) -> Any:
        value, _ = loss_fn(params, state, batch, key=key, hparams=hparams)
        return value, (state, metrics())

    return train.make_step(loss, optim.sgd(0.1))


def fitted(step: Any, data: Any = DATA, **settings: Any) -> train.FitResult:
    return train.fit(step, start(optim.sgd(0.1)), data, **({"key": KEY, "epochs": 1, "jit": False} | settings))


def test_metrics_that_are_none_are_named() -> None:
    names = iter(["one", "other"])
    for metrics, message, settings in (
        (lambda: {"a": torch.tensor(1j)}, r"metrics\['a'\]: got a complex64 .*expected a real number", {}),
        (lambda: {1: torch.tensor(1.0)}, r"metrics: got the name 1 \(int\); expected names that are strings", {}),
        (
            lambda: {next(names): torch.tensor(1.0)},
            "metrics: got .*'other'.* expected the same in each step",
            {"batch_size": 6},
        ),
    ):
        with pytest.raises(FuncregError, match=message):
            fitted(returning(metrics), **settings)


def test_data_of_another_dtype_than_the_parameters_is_named() -> None:
    with pytest.raises(
        FuncregError, match=r"data's x: got a float32 .*expected torch\.float64, as the parameters have"
    ):
        fitted(train.make_step(loss_fn, optim.sgd(0.1)), Batch(X.float(), DATA.y))


def test_hparams_of_numpy_are_named() -> None:
    with pytest.raises(FuncregError, match=r"hparams's lr: got array.*Convert it: torch\.as_tensor\(value\)"):
        fitted(train.make_step(loss_fn, optim.sgd(0.1)), hparams={"lr": DATA.y.numpy()})


@pytest.mark.parametrize("told", [True, torch.tensor(True), torch.tensor([True]).numpy()[0]])
def test_an_epoch_may_be_the_last_by_any_true(told: Any) -> None:
    ended = fitted(train.make_step(loss_fn, optim.sgd(0.1)), epochs=3, on_epoch=lambda epoch: told)
    assert len(ended.history["loss"]) == 1


# What trains nothing


def nothing(kind: str) -> Any:
    own = nn.Linear(3, 1).double()

    def loss(params: Any, state: Any, batch: Any, *, key: Any, hparams: Any) -> Any:
        error = ((predict(params, batch.x) - batch.y) ** 2).mean()
        if kind == "no_grad":
            with torch.no_grad():
                error = ((predict(params, batch.x) - batch.y) ** 2).mean()
        values = {
            "detached": error.detach(),
            "no_grad": error,
            "constant": batch.y.mean(),
            "hits": (predict(params, batch.x) > 0).double().mean(),
            "a module's own weights": own(batch.x).mean(),
        }
        return values[kind], (state, {})

    return loss


@pytest.mark.parametrize("wrapped", [lambda f: f, sharpness.sam, lambda f: fr.distributed.data_parallel(f, shards=2)])
@pytest.mark.parametrize("kind", ["detached", "no_grad", "constant", "hits", "a module's own weights"])
def test_a_loss_that_depends_on_no_parameter_is_refused(kind: str, wrapped: Any) -> None:
    step = train.make_step(wrapped(nothing(kind)), optim.sgd(0.1))
    for call in (
        lambda: step(start(optim.sgd(0.1)), DATA),
        lambda: vmap(step, (0, None))(tree.stack([start(optim.sgd(0.1))]), DATA),
        lambda: train.fit(step, start(optim.sgd(0.1)), DATA, key=KEY, epochs=1, jit=False),
    ):
        with pytest.raises(FuncregError, match="loss_fn: got a loss that depends on no parameter"):
            call()


def test_each_example_has_to_depend_on_a_parameter() -> None:
    clipped = transforms.chain(transforms.clip_per_example(1.0), optim.sgd(0.1))
    with pytest.raises(FuncregError, match="depends on no parameter"):
        train.make_step(nothing("detached"), clipped, per_example=True)(start(clipped), DATA)


@needs_compiler
def test_a_compiled_loss_that_depends_on_no_parameter_is_refused() -> None:
    step = train.make_step(nothing("detached"), optim.sgd(0.1))
    with pytest.raises(FuncregError, match="depends on no parameter"):
        train.fit(step, start(optim.sgd(0.1)), DATA, key=KEY, epochs=1)


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_a_gradient_of_zero_is_no_reason_to_refuse(strength: float) -> None:
    def part(params: Any, state: Any, batch: Any, *, key: Any, hparams: Any) -> Any:
        return strength * params["inner.bias"].sum(), (state, {})

    constant = train.make_step(nothing("constant"), optim.sgd(0.1), penalties={"l2": lambda p, h: penalties.l2(p, 0.0)})
    for step in (train.make_step(part, optim.sgd(0.1)), constant):
        moved, metrics = step(start(optim.sgd(0.1)), DATA)
        assert (metrics["grad_norm"] == 0) == (strength == 0 or step is constant)
        assert torch.equal(moved.params["outer.weight"], PARAMS["outer.weight"])


@pytest.mark.parametrize("wrapped", [lambda f: f, sharpness.sam])
def test_tensors_of_inference_mode_are_as_others(wrapped: Any) -> None:
    step = train.make_step(wrapped(loss_fn), optim.adam(0.1))
    expected = step(start(optim.adam(0.1)), DATA)
    with torch.inference_mode():
        given = tree.map(torch.clone, (start(optim.adam(0.1)), DATA))
    assert given[1].x.is_inference()
    fr.testing.assert_trees_equal(step(*given), expected)
    one = train.fit(step, given[0], given[1], key=KEY, epochs=1, jit=False)
    fr.testing.assert_trees_equal(one.train_state.params, expected[0].params)


# Runs


STEPS = 20
INPUTS = draw(5, STEPS, 8, 3)
BATCHES = Batch(INPUTS, torch.sin(INPUTS.sum(dim=-1)))
HELD_OUT = Batch(draw(6, 30, 3), torch.sin(draw(6, 30, 3).sum(dim=-1)))


def regularized(params, state, batch, *, key, hparams):
    loss, aux = loss_fn(params, state, batch, key=key, hparams=hparams)
    l1 = penalties.l1(params, hparams["l1"], mask=tree.is_weight)
    return loss + l1 + penalties.l2(params, torch.exp(hparams["log l2"])), aux


OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda h: optim.sgd(h["lr"], momentum=0.9, weight_decay=h["decay"]),
    "adam": lambda h: optim.adam(h["lr"], weight_decay=h["decay"]),
}
RUNS = {name: train.make_step(regularized, make) for name, make in OPTIMIZERS.items()}
STRENGTHS = {"log l2": -4.0, "l1": 0.003, "decay": 0.05, "lr": 0.04}


def settings(rate: float | None) -> dict[str, Tensor]:
    values = STRENGTHS if rate is None else STRENGTHS | {"rate": rate}
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def validation(hparams: dict[str, Tensor], name: str) -> Tensor:
    """The loss on other data after a run: what hyperparameters are chosen by."""
    train_state, _ = train.unroll(RUNS[name], start(OPTIMIZERS[name], hparams), BATCHES, hparams)
    return loss_fn(train_state.params, {}, HELD_OUT, key=KEY, hparams={})[0]


@pytest.mark.parametrize("rate", [None, 0.3], ids=["plain", "dropout"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_hypergradients_are_central_differences(name: str, rate: float | None) -> None:
    """The same key gives the same dropout on both sides."""
    hparams = settings(rate)
    slopes, value = grad_and_value(validation)(hparams, name)
    assert value < 0.8 * loss_fn(PARAMS, {}, HELD_OUT, key=KEY, hparams={})[0], "nothing was learned"
    for setting in STRENGTHS:
        shift = 1e-5 * hparams[setting].abs()
        above, below = (validation(hparams | {setting: hparams[setting] + sign * shift}, name) for sign in (1, -1))
        # Central differences: a relative step of 1e-5 leaves 1e-10 of curvature and 1e-10 of rounding.
        torch.testing.assert_close(slopes[setting], (above - below) / (2 * shift), rtol=1e-6, atol=1e-9)
        assert slopes[setting].abs() > 1e-4, "too flat to tell"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_hypergradients_of_members_are_those_of_each(name: str) -> None:
    points = tree.stack([tree.map(lambda value, by=by: value * by, settings(0.3)) for by in (0.5, 1.0, 1.5)])
    batched = vmap(grad_and_value(lambda hparams: validation(hparams, name)))(points)
    for member in range(3):
        alone = grad_and_value(validation)(tree.index(points, member), name)
        assert_close(tree.index(batched, member), alone, 1e-10)


def test_forward_and_reverse_derivatives_agree() -> None:
    hparams = settings(0.3)
    for setting, slope in grad(validation)(hparams, "adam").items():
        lone = {name: torch.ones_like(leaf) if name == setting else torch.zeros_like(leaf)
                for name, leaf in hparams.items()}  # fmt: skip
        forward = jvp(lambda hparams: validation(hparams, "adam"), (hparams,), (lone,))[1]
        torch.testing.assert_close(forward, slope, rtol=1e-9, atol=1e-12)


@needs_compiler
def test_a_compiled_hypergradient_is_eager() -> None:
    few = tree.map(lambda leaf: leaf[:2], BATCHES)
    begin = start(OPTIMIZERS["sgd"], settings(None))

    def short(hparams: Any) -> Tensor:
        train_state, _ = train.unroll(RUNS["sgd"], begin, few, hparams)
        return loss_fn(train_state.params, {}, HELD_OUT, key=KEY, hparams={})[0]

    assert_close(fr.jit(grad(short))(settings(None)), grad(short)(settings(None)), 1e-10)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
def test_a_run_is_its_steps_one_after_the_other(mode) -> None:
    hparams, begin = settings(0.3), start(OPTIMIZERS["adam"], settings(0.3))
    before, train_state, records = tree.clone((begin, BATCHES)), begin, []
    with mode():
        result, metrics = train.unroll(RUNS["adam"], begin, BATCHES, hparams)
        for batch in tree.unstack(BATCHES):
            train_state, each = RUNS["adam"](train_state, batch, hparams)
            records.append(each)
    assert same_bits(result, train_state)
    assert same_bits(metrics, tree.stack(records))
    assert metrics["loss"].shape == (STEPS,)
    assert int(result.step) == STEPS
    assert same_bits(before, (begin, BATCHES))


def test_a_run_goes_on_where_it_ended() -> None:
    hparams, begin = settings(None), start(OPTIMIZERS["adam"], settings(None))
    halves = [tree.map(lambda leaf, at=at: leaf[at : at + 10], BATCHES) for at in (0, 10)]
    middle, first = train.unroll(RUNS["adam"], begin, halves[0], hparams)
    end, second = train.unroll(RUNS["adam"], middle, halves[1], hparams)
    whole, metrics = train.unroll(RUNS["adam"], begin, BATCHES, hparams)
    assert same_bits(end, whole)
    assert same_bits(tree.map(lambda a, b: torch.cat((a, b)), first, second), metrics)


def test_examples_have_hypergradients_too() -> None:
    """How much the validation loss would change with the weight of each training example."""

    def weighted(params, state, batch, *, key, hparams):
        error = predict(params, batch.x) - batch.y
        return (hparams["weights"] * error**2).mean(), (state, {})

    step = train.make_step(weighted, optim.sgd(0.1))

    def loss(weights: Tensor) -> Tensor:
        end, _ = train.unroll(step, start(optim.sgd(0.1)), BATCHES, {"weights": weights})
        return loss_fn(end.params, {}, HELD_OUT, key=KEY, hparams={})[0]

    ones = torch.ones(8, dtype=torch.float64)
    slopes, shift = grad(loss)(ones), 1e-5 * torch.eye(8, dtype=torch.float64)
    differences = torch.stack([(loss(ones + each) - loss(ones - each)) / 2e-5 for each in shift])
    torch.testing.assert_close(slopes, differences, rtol=1e-6, atol=1e-9)

"""Pure functions give in several threads at once what they give in one."""

import random
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import funcreg as fr
from funcreg.model.rehearsal import Originals

THREADS, CALLS = 4, 8


class Checkpointed(nn.Module):
    """Draws by itself, in a part that a backward pass would run again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(checkpoint(lambda h: nn.functional.dropout(self.first(h), 0.5), x, use_reentrant=False))


class Thinned(torch.autograd.Function):
    """Draws in the backward pass."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * torch.rand_like(grads[0])


class ThinnedLinear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return Thinned.apply(super().forward(input))


class Counted(nn.Linear):
    """Writes into a buffer where nothing but the dispatcher tells of it."""

    total: Tensor

    def __init__(self) -> None:
        super().__init__(6, 3)
        self.register_buffer("total", torch.zeros(()))

    def forward(self, input: Tensor) -> Tensor:
        if input.sum() > 0:
            self.total.data.add_(1)
        return super().forward(input) + self.total


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3), nn.Dropout(0.5))


@pytest.fixture(autouse=True)
def often() -> Iterator[None]:
    """Threads take turns within a call."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def in_threads(function: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, [i for i in range(THREADS) for _ in range(CALLS)]))


FACTORIES: dict[str, Callable[[], nn.Module]] = {
    "mlp": mlp,
    "checkpoint": Checkpointed,
    "grad": lambda: ThinnedLinear(6, 3),
    "writes": Counted,
}


@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES.keys())
@pytest.mark.parametrize("new", [False, True], ids=["known", "first calls"])
def test_calls_of_a_model_in_threads_do_not_meet(factory: Callable[[], nn.Module], new: bool) -> None:
    keys, inputs = fr.random.split(fr.random.key(0), THREADS), (-torch.rand(5, 6), torch.rand(5, 6))
    model = fr.from_module(factory)
    values = [model.init(key) for key in keys]

    def gradients(i: int) -> dict[str, Tensor]:
        params, state = values[i]
        leaves = {name: leaf.clone().requires_grad_() for name, leaf in params.items()}
        _, state = model.apply(leaves, state, inputs[0], key=keys[i], train=True)
        output, state = model.apply(leaves, state, inputs[1], key=keys[i], train=True)
        grads = torch.autograd.grad(output.square().sum(), list(leaves.values()))
        return {**dict(zip(leaves, grads, strict=True)), **state, "output": output.detach()}

    one_by_one = [gradients(i) for i in range(THREADS)]
    if new:
        model = fr.from_module(factory)
    before = torch.random.get_rng_state()
    for i, got in enumerate(in_threads(gradients)):
        fr.testing.assert_trees_equal(got, one_by_one[i // CALLS])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_stands_in_for_torchs_functions_is_gone_afterwards() -> None:
    from torch.autograd.function import BackwardCFunction
    from torch.utils import checkpoint as module

    def functions() -> list[Any]:
        return [*vars(module).values(), BackwardCFunction.__init__]

    before = functions()
    model = fr.from_module(Checkpointed)
    params, state = model.init(fr.random.key(0))
    in_threads(lambda i: model.apply(params, state, torch.ones(2, 6), key=fr.random.key(i)))
    assert functions() == before


def test_a_thread_that_draws_is_not_taken_for_the_model() -> None:
    model, stop = fr.from_module(mlp), threading.Event()
    params, state = model.init(fr.random.key(0))

    def draws() -> None:
        while not stop.is_set():
            torch.rand(2)

    thread = threading.Thread(target=draws)
    thread.start()
    try:
        for _ in range(20):
            model.apply(params, state, torch.ones(2, 6), key=fr.random.key(0), train=True)
    finally:
        stop.set()
        thread.join()


class Unkeyed(nn.Linear):
    """Draws where no key reaches."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + random.random()


def test_a_model_that_draws_is_refused_beside_other_threads_too() -> None:
    model, waiting = fr.from_module(Unkeyed(2, 2)), threading.Event()
    params, state = fr.variables(nn.Linear(2, 2))
    thread = threading.Thread(target=waiting.wait)
    thread.start()
    try:
        with pytest.raises(fr.FuncregError, match=r"the module .Unkeyed. (draws from|gives two answers)"):
            model.apply(params, state, torch.ones(1, 2))
    finally:
        waiting.set()
        thread.join()


def test_modules_that_are_made_in_threads_are_all_known_while_they_live() -> None:
    originals = Originals()

    def note(i: int) -> nn.Module:
        originals.note(module := nn.Sequential(*[nn.Linear(1, 1) for _ in range(20)]))
        return module

    for module in in_threads(note):
        names = dict(module.named_parameters())
        assert {originals.name_of(each) for each in names.values()} == names.keys()


def test_fits_in_threads_end_where_they_end_alone() -> None:
    model, optimizer = fr.from_module(mlp), fr.optim.adam(1e-2)
    data = fr.train.Batch(torch.randn(8, 6), torch.randint(0, 3, (8,)))

    def loss_fn(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        logits, state = model.apply(params, state, batch.x, key=key, train=True)
        return fr.losses.cross_entropy(logits, batch.y), (state, {})

    step = fr.train.make_step(loss_fn, optimizer)

    def fit(i: int) -> Any:
        key = fr.random.key(i)
        first = fr.train.init(*model.init(key), optimizer, key=key)
        options = {"epochs": 2, "batch_size": 4, "jit": False, "progress": False}
        return fr.train.fit(step, first, data, key=fr.random.fold_in(key, 1), **options).train_state

    one_by_one = [fit(i) for i in range(THREADS)]
    for i, got in enumerate(in_threads(fit)):
        fr.testing.assert_trees_equal(got, one_by_one[i // CALLS])


class Recursive(nn.Module):
    """Calls the pure function that was made of it."""

    def forward(self, x: Tensor, more: bool) -> Tensor:
        return recursive.apply({}, {}, x, False)[0] if more else x


recursive = fr.from_module(Recursive())


def test_a_model_within_its_own_call_is_refused() -> None:
    with pytest.raises(fr.FuncregError, match=r"the module .Recursive., whose forward calls its own apply"):
        recursive.apply({}, {}, torch.ones(2), True)
    assert recursive.apply({}, {}, torch.ones(2), False)[0].sum() == 2


def test_one_thread_runs_while_another_compiles() -> None:
    model, inside, done = fr.from_module(mlp), threading.Event(), threading.Event()
    params, state = model.init(fr.random.key(0))
    x, key = torch.randn(3, 6), fr.random.key(1)
    alone = model.apply(params, state, x, key=key)[0]

    def waits(graph: Any, inputs: Any) -> Any:
        inside.set()
        done.wait(60)
        return graph

    def compiles() -> Tensor:
        return torch.compile(lambda x: model.apply(params, state, x, key=key)[0], backend=waits)(x)

    with ThreadPoolExecutor(1) as pool:
        compiled = pool.submit(compiles)
        assert inside.wait(60)
        try:
            assert torch.equal(model.apply(params, state, x, key=key)[0], alone)
            assert fr.losses.cross_entropy(x, torch.tensor([0, 1, 2])).isfinite()
            with pytest.raises(fr.FuncregError, match="targets"):
                fr.losses.cross_entropy(x, torch.tensor([0, 1, 9]))
        finally:
            done.set()
        torch.testing.assert_close(compiled.result(), alone)


def test_a_step_that_draws_is_refused_beside_other_threads_too() -> None:
    optimizer, waiting = fr.optim.sgd(0.1), threading.Event()

    def loss_fn(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        return (params["w"] * batch.x).sum() + 0 * torch.rand(()), (state, {})

    first = fr.train.init({"w": torch.ones(2)}, {}, optimizer, key=fr.random.key(0))
    data = fr.train.Batch(torch.ones(2, 2), torch.ones(2))
    step, key = fr.train.make_step(loss_fn, optimizer), fr.random.key(1)
    thread = threading.Thread(target=waiting.wait)
    thread.start()
    try:
        with pytest.raises(fr.FuncregError, match="step: got one that draws from the global generator"):
            fr.train.fit(step, first, data, key=key, epochs=1, batch_size=2, jit=False, progress=False)
    finally:
        waiting.set()
        thread.join()

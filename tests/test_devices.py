"""Everything runs on a GPU as on the CPU: on a simulated one everywhere, on a real one where there is one."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import vmap

import funcreg as fr
from funcreg import optim, random, train, tree
from funcreg.train import Batch
from tests import networks
from tests.contract.case import Case
from tests.simulated_gpu import CPU, GPU, simulated_gpu
from tests.test_contract import CASES

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
needs_compiler = pytest.mark.skipif(not fr.can_compile(), reason="needs a C++ compiler")
pytestmark = pytest.mark.usefixtures("norms_unread")
# What says where its result lies, and what has no tensor to say so.
ELSEWHERE = ("tree.to", "labels.optimal_logit_gap")


def tensors(of: Any) -> list[Tensor]:
    return [leaf for leaf in tree.leaves(of) if isinstance(leaf, Tensor)]


def to_gpu(given: Any) -> Any:
    return tree.map(lambda leaf: leaf.to(GPU) if isinstance(leaf, Tensor) else leaf, given)


def assert_as_on_the_cpu(call: Callable[[Any], Any], given: Any) -> int:
    """All results lie on the simulated GPU and have the CPU's bits, and nothing was read on the way.

    Returns how often something was copied there.
    """
    expected = call(given)
    with simulated_gpu() as devices:
        moved = to_gpu(given)
        before = devices.copies
        results = tensors(call(moved))
        copies = devices.copies - before
        assert not devices.reads, "a value was read, for which the CPU waits until the GPU is done"
        assert {each.device for each in results} == {GPU}
        results = [each.cpu() for each in results]
    for one, other in zip(results, tensors(expected), strict=True):
        # The last bit of a float64 may differ where LAPACK works on memory that is aligned otherwise.
        torch.testing.assert_close(one, other, rtol=1e-15, atol=0.0, equal_nan=True)
    return copies


# A GPU that is simulated


def test_the_simulated_gpu_is_as_strict_as_a_real_one() -> None:
    with simulated_gpu() as devices:
        x, here = torch.ones(2, 3, device="cuda"), torch.ones(3)
        assert (x.device, x.is_cuda, x.mT[0].device, here.device) == (GPU, True, GPU, CPU)
        assert (torch.zeros_like(x).device, x.new_ones(2).device, torch.zeros(2).device) == (GPU, GPU, CPU)
        assert {(x * 2.0).device, (x * torch.ones(())).device, x[torch.tensor([1])].device} == {GPU}
        refused = (
            lambda: x + here,
            lambda: x @ here,
            lambda: torch.stack((x[0, 0], here[0])),
            lambda: torch.lerp(x, x, torch.ones(())),
            lambda: x.gather(1, torch.zeros(2, 1, dtype=torch.int64)),
            lambda: vmap(lambda a, b: a + b)(x, here[:2]),
            lambda: torch.func.grad(lambda a: (a * here).sum())(x),
        )
        for each in refused:
            with pytest.raises(RuntimeError, match="same device"):
                each()
        with pytest.raises(TypeError, match="numpy"):
            x.numpy()
        assert not devices.reads
        assert (float(x[0, 0]), x.cpu().numpy().shape, x.tolist()[0]) == (1.0, (2, 3), [1.0, 1.0, 1.0])
        assert devices.reads.total() == 3


@pytest.mark.parametrize("case", [case for case in CASES if case.name not in ELSEWHERE], ids=str)
def test_on_a_gpu_it_is_the_same(case: Case) -> None:
    example = case.example()
    assert_as_on_the_cpu(example.call, example.member(example.base))
    assert_as_on_the_cpu(example.over(), example.stacked())
    if example.settings:
        assert_as_on_the_cpu(example.call, list(example.leaves))  # its settings are Python numbers


@pytest.mark.parametrize("name", networks.SMALL)
def test_a_network_runs_in_every_mode(name: str) -> None:
    _, model, params, state, x = networks.made(name)
    noisy = networks.is_noisy(model)
    modes: list[dict[str, Any]] = [{}, {"key": random.key(1)}, {"key": random.key(1), "train": True}]
    modes += [{**mode, "rates": rate} for mode in modes[1:] for rate in (0.2, torch.tensor(0.2)) if noisy]
    modes += [{**modes[2], "momentum": momentum} for momentum in (0.3, torch.tensor(0.3)) if model.apply.tracked]
    for mode in modes:
        # Proven pure, so that a call on the GPU is not the first, which compares the global generator.
        model.apply(params, state, x, **mode)
        given = {"params": params, "state": state, "x": x, "mode": {**mode, "key": mode.get("key", ())}}

        def call(given: Any, mode: dict[str, Any] = mode) -> Any:
            return model.apply(given["params"], given["state"], given["x"], **{**mode, **_keyed(given["mode"])})

        if "rates" in mode or "momentum" in mode:
            # A number beside tensors on the GPU has to go there.
            with simulated_gpu():
                assert {each.device for each in tensors(call(to_gpu(given)))} == {GPU}
        else:
            assert_as_on_the_cpu(call, given)


def _keyed(mode: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in mode.items() if not isinstance(value, tuple)}


def test_models_begin_where_their_key_lies() -> None:
    model = fr.from_module(networks.SMALL["mlp"][0])
    expected, stacked = model.init(random.key(3)), fr.model_members(model, random.key(3), 2)
    with simulated_gpu():
        key = random.key(3, device="cuda")
        for ours, other in ((model.init(key), expected), (fr.model_members(model, key, 2), stacked)):
            assert {leaf.device for leaf in tree.leaves(ours)} == {GPU}
            assert all(torch.equal(a.cpu(), b) for a, b in zip(tree.leaves(ours), tree.leaves(other), strict=True))
        params, state = model.init(key)
        module = fr.to_module(networks.SMALL["mlp"][0], params, state)
        assert {leaf.device for leaf in module.state_dict().values()} == {GPU}
        copied = fr.variables(module)
        assert {leaf.device for leaf in tree.leaves(copied)} == {GPU}
        assert {leaf.device for leaf in fr.norm.init_batch_stats(3, device="cuda")} == {GPU}


def test_a_gpu_that_is_not_in_use_yet_keeps_its_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch remembers a seed for it until it is in use, when nobody would put the generator back."""
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    fr.model_members(fr.from_module(networks.SMALL["mlp"][0]), random.key(0), 2)
    assert not seeded
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(1)
    assert seeded, "this is how torch tells it"


def _module() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Dropout(0.3), torch.nn.Flatten(),
        torch.nn.Linear(144, 3),
    )  # fmt: skip


MODEL = fr.from_module(_module)
HPARAMS = {"rate": 0.2, "lr": 0.01, "decay": 1e-4, "most": 0.5, "alpha": 0.4}


def loss_fn(params: Any, state: Any, batch: Any, /, *, key: Tensor, hparams: Any) -> Any:
    mix_key, noise_key = random.split(key)
    y = fr.labels.one_hot(batch.y, 3)
    x, y = fr.augment.mixup(fr.augment.flip(batch.x, key=mix_key), y, hparams["alpha"], key=noise_key)
    logits, state = MODEL.apply(params, state, x, key=noise_key, train=True, rates=hparams["rate"])
    return fr.losses.cross_entropy(logits, y, smoothing=0.1), (state, {"accuracy": fr.losses.accuracy(logits, batch.y)})


def optimizer(hparams: Any) -> fr.transforms.Transform:
    schedule = optim.warmup_cosine(hparams["lr"], warmup=2, steps=9)
    return fr.transforms.chain(fr.transforms.clip_by_global_norm(hparams["most"]), optim.adam(schedule))


STEP = train.make_step(
    loss_fn,
    optimizer,
    penalties={"l2": lambda params, hparams: fr.penalties.l2(params, hparams["decay"], mask=tree.is_weight)},
    constraint=lambda params, hparams: fr.constraints.max_norm(params, hparams["most"]),
)
DATA = Batch(random.uniform(random.key(1), (24, 3, 8, 8)), random.randint(random.key(2), (24,), 0, 3))
MEMBERS = {name: torch.tensor([value, value / 2, 2 * value]) for name, value in HPARAMS.items()}


def begin(device: torch.device, members: int | None = None) -> train.TrainState:
    key = random.key(0, device=device)
    params, state = MODEL.init(key) if members is None else fr.model_members(MODEL, key, members)
    hparams = HPARAMS if members is None else MEMBERS
    return train.init(params, state, optimizer, key=key, hparams=hparams, members=members)


# Those of mixup and cutmix, between two steps of a network.
@pytest.mark.parametrize("name", ["flip", "crop", "cutout", "mixup", "cutmix"])
def test_augmentation_copies_nothing_to_a_gpu(name: str) -> None:
    for case in CASES:
        if case.name == f"augment.{name}":
            example = case.example()
            assert assert_as_on_the_cpu(example.call, list(example.leaves)) == 0


def test_a_step_reads_nothing_from_a_gpu_and_copies_nothing_to_it() -> None:
    """The CPU runs ahead of the GPU: no loss, norm or step number is read, and no constant sent."""
    hparams = tree.map(lambda number: torch.tensor(number, dtype=torch.float64), HPARAMS)
    given = {"train_state": begin(CPU), "batch": DATA, "hparams": hparams}
    STEP(*given.values())
    assert assert_as_on_the_cpu(lambda given: STEP(*given.values()), given) == 0
    given = {"train_state": begin(CPU, 3), "batch": DATA, "hparams": MEMBERS}
    assert assert_as_on_the_cpu(lambda given: vmap(STEP, in_dims=(0, None, 0))(*given.values()), given) == 0


def _fitted(device: torch.device, data: Batch, path: Path, **options: Any) -> train.FitResult:
    members = options.get("members")
    # Every sample's, at the end of every epoch.
    metric = train.make_evaluate(_per_sample, members=members)
    evaluate = functools.partial(metric, data=tree.to(data, device), batch_size=10)
    return train.fit(
        STEP,
        begin(device, members),
        data,
        key=random.key(7),
        epochs=3,
        batch_size=8,
        hparams=HPARAMS if members is None else MEMBERS,
        jit=False,
        evaluate=lambda params, state: evaluate(params, state),
        early_stopping=train.early_stopping(1),
        monitor="validation",
        checkpoint=path,
        progress=False,
        **options,
    )


def _per_sample(params: Any, state: Any, batch: Any) -> dict[str, Tensor]:
    logits, _ = MODEL.apply(params, state, batch.x)
    return {"validation": fr.losses.cross_entropy(logits, batch.y, reduction="none")}


@pytest.mark.parametrize(
    "options",
    [{}, {"members": 3}, {"members": 3, "batches": "own", "chunk_size": 2}],
    ids=["one", "members", "own batches in chunks"],
)
@pytest.mark.parametrize("data_on", ["cpu", "cuda"])
def test_a_fit_on_a_gpu(options: dict[str, Any], data_on: str, tmp_path: Path) -> None:
    """The same bits, from data here or there; its checkpoint goes on on the CPU."""
    expected = _fitted(CPU, DATA, tmp_path / "cpu", **options)
    with simulated_gpu():
        result = _fitted(GPU, tree.to(DATA, data_on), tmp_path / "gpu", **options)
        assert {leaf.device for leaf in tree.leaves((result.train_state, result.best))} == {GPU}
        assert {each.device for each in result.history.values()} == {CPU}
        ours = tree.to((result.train_state, result.best), "cpu")
    for one, other in zip(tree.leaves(ours), tree.leaves((expected.train_state, expected.best)), strict=True):
        assert torch.equal(one, other)
    for name, history in expected.history.items():
        assert torch.equal(result.history[name], history)
    loaded = _fitted(CPU, DATA, tmp_path / "gpu", **options)
    for one, other in zip(tensors(loaded), tensors(expected), strict=True):
        assert torch.equal(one, other)


def test_a_fit_reads_its_metrics_once_an_epoch() -> None:
    with simulated_gpu() as devices:
        given = begin(GPU), tree.to(DATA, GPU)
        for epochs in (1, 2):
            devices.reads.clear()
            options: dict[str, Any] = {"hparams": HPARAMS, "jit": False, "progress": False}
            result = train.fit(STEP, *given, key=random.key(7), epochs=epochs, batch_size=8, **options)
            assert dict(devices.reads) == {"to cpu": epochs * len(result.history)}


def test_what_a_gpu_saved_loads_on_the_cpu(tmp_path: Path) -> None:
    saved = begin(CPU)
    with simulated_gpu():
        fr.checkpoint.save(tmp_path / "state", to_gpu(saved))
        back = fr.checkpoint.load(tmp_path / "state", to_gpu(begin(CPU)))
        assert {leaf.device for leaf in tree.leaves(back)} == {GPU}
    loaded = fr.checkpoint.load(tmp_path / "state", begin(CPU))
    assert all(torch.equal(a, b) for a, b in zip(tree.leaves(loaded), tree.leaves(saved), strict=True))


# A GPU that is there

DRAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "split": lambda key: random.split(key, 5),
    "fold_in": lambda key: random.fold_in(key, 12),
    "bits": lambda key: random.bits(key, (3, 7)),
    "uniform": lambda key: random.uniform(key, (3, 7)),
    "randint": lambda key: random.randint(key, (3, 7), -5, 2**30),
    "permutation": lambda key: random.permutation(key, 1000),
    "bernoulli": lambda key: random.bernoulli(key, 0.3, (1000,)),
    "dropout": lambda key: fr.noise.dropout(torch.ones(9, 7, device=key.device), 0.3, key=key),
    "channel_dropout": lambda key: fr.noise.channel_dropout(torch.ones(9, 7, 2, device=key.device), 0.3, key=key),
}


@needs_cuda
@pytest.mark.parametrize("backend", ["pure", "auto"])
@pytest.mark.parametrize("name", DRAWS)
def test_a_gpu_draws_the_cpus_bits(name: str, backend: str) -> None:
    draw, keys = DRAWS[name], random.split(random.key(4), 3)
    with random.use_backend(backend):
        for key in keys:
            assert torch.equal(draw(key.cuda()).cpu(), draw(key))
        assert torch.equal(vmap(draw)(keys.cuda()).cpu(), vmap(draw)(keys))


@needs_cuda
@needs_compiler
@pytest.mark.parametrize("execution", ["pure", "native"])
def test_a_gpu_draws_the_cpus_bits_when_compiled(execution: str) -> None:
    torch.compiler.reset()

    def program(key: Tensor, keys: Tensor) -> list[Tensor]:
        with random.compiled_draws_are(execution):
            return [draw(key) for draw in DRAWS.values()] + [vmap(draw)(keys) for draw in DRAWS.values()]

    key, keys = random.key(4), random.split(random.key(5), 3)
    random.uniform(key.cuda(), 1)  # outside of a program it is found out which kernels there are
    expected = [draw(key) for draw in DRAWS.values()] + [vmap(draw)(keys) for draw in DRAWS.values()]
    for one, other in zip(fr.jit(program)(key.cuda(), keys.cuda()), expected, strict=True):
        assert torch.equal(one.cpu(), other)


@needs_cuda
def test_a_step_on_a_gpu_is_the_cpus() -> None:
    hparams = tree.map(lambda number: torch.tensor(number, dtype=torch.float64), HPARAMS)
    # The convolutions of a GPU round float32 to 10 bits where they may.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        expected, metrics = STEP(begin(CPU), DATA, hparams)
        ours, own_metrics = STEP(*to_gpu((begin(CPU), DATA, hparams)))
    assert {leaf.device for leaf in tree.leaves(ours)} == {GPU}
    for one, other in zip(tensors((ours, own_metrics)), tensors((expected, metrics)), strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-5, atol=1e-5)


@needs_cuda
@pytest.mark.parametrize("members", [None, 3])
@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=[needs_compiler, pytest.mark.slow])])
def test_a_fit_on_a_real_gpu(members: int | None, jit: bool, tmp_path: Path) -> None:
    """Adam divides by the size of a gradient, so that roundings of small ones show."""
    hparams = HPARAMS if members is None else MEMBERS
    options: dict[str, Any] = {
        "key": random.key(7), "epochs": 2, "batch_size": 8, "hparams": hparams, "members": members, "progress": False,
    }  # fmt: skip
    expected = train.fit(STEP, begin(CPU, members), DATA, jit=False, **options)
    path = tmp_path / "fit"
    result = train.fit(STEP, begin(GPU, members), DATA, jit=jit, checkpoint=path, **options)
    assert {leaf.device for leaf in tree.leaves(result.train_state)} == {GPU}
    torch.testing.assert_close(result.history["loss"], expected.history["loss"], rtol=1e-2, atol=1e-2)
    assert torch.equal(result.train_state.key.cpu(), expected.train_state.key), "the same draws"
    resumed = train.fit(STEP, begin(CPU, members), DATA, jit=False, checkpoint=path, **options)
    assert all(
        torch.equal(one, other.cpu())
        for one, other in zip(tree.leaves(resumed.train_state), tree.leaves(result.train_state), strict=True)
    )


@needs_cuda
def test_autocast_on_a_gpu_is_near_float32() -> None:
    params, state = tree.to(MODEL.init(random.key(0)), GPU)
    x, key = DATA.x.cuda(), random.key(1, device=GPU)
    exact, exact_state = MODEL.apply(params, state, x, key=key, train=True)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        rounded, rounded_state = MODEL.apply(params, state, x, key=key, train=True)
    assert rounded.dtype == torch.bfloat16
    assert (rounded - exact).abs().max() < 0.1 * exact.abs().max()
    assert {name: leaf.dtype for name, leaf in rounded_state.items()} == {
        name: leaf.dtype for name, leaf in exact_state.items()
    }

"""fr.random: two executions with the same bits, keys as streams, and draws that stay within their laws' bounds."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.func import vmap

import funcreg as fr
from funcreg import _jit
from funcreg.random import execution

HAS_NATIVE = fr.random.backend() == "native"
needs_native = pytest.mark.skipif(not HAS_NATIVE, reason="this torch has no native Philox kernels")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

SEEDS = st.integers(-(2**63), 2**64 - 1)
OFFSETS = st.integers(-(2**63), 2**63 - 1)
SHAPES = st.lists(st.integers(0, 7), max_size=4).map(tuple)
DRAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "split": lambda k: fr.random.split(k, 5),
    "bits": lambda k: fr.random.bits(k, (3, 5)),
    "uniform": lambda k: fr.random.uniform(k, (3, 5)),
    "bernoulli": lambda k: fr.random.bernoulli(k, 0.3, (40,)),
    "randint": lambda k: fr.random.randint(k, (6,), -5, 1000),
    "permutation": lambda k: fr.random.permutation(k, 9),
    "fold_in": lambda k: fr.random.fold_in(k, 11),
    "normal": lambda k: fr.random.normal(k, (5,)),
}
EXACT = tuple(name for name in DRAWS if name != "normal")  # normal goes through log and cos


@needs_native
@given(seed=SEEDS, offset=OFFSETS, shape=SHAPES, num=st.integers(1, 9))
def test_native_and_pure_have_the_same_bits(seed: int, offset: int, shape: tuple[int, ...], num: int) -> None:
    key = torch.stack((fr.random.key(seed)[0], torch.tensor(offset)))
    native, pure = ({}, {})
    for name, results in (("native", native), ("pure", pure)):
        with fr.random.use_backend(name):
            results["split"] = fr.random.split(key, num)
            results["words"] = fr.random.bits(key, shape)
            results["uniform"] = fr.random.uniform(key, shape)
            results["fold"] = fr.random.fold_in(key, num)
    for what in native:
        assert torch.equal(native[what], pure[what]), what


@needs_native
def test_native_and_pure_agree_across_the_carry_of_the_counter() -> None:
    for offset in (2**32 - 2, -3, 2**63 - 2):
        key = torch.tensor([5, offset])
        with fr.random.use_backend("native"):
            native = fr.random.bits(key, 40)
        with fr.random.use_backend("pure"):
            assert torch.equal(native, fr.random.bits(key, 40))


@pytest.mark.parametrize("backend", ["pure", pytest.param("native", marks=needs_native)])
@pytest.mark.parametrize("name", DRAWS)
def test_nested_vmap_equals_loops(name: str, backend: str) -> None:
    draw = DRAWS[name]
    with fr.random.use_backend(backend):
        keys = fr.random.split(fr.random.key(3), 12).reshape(3, 4, 2)
        looped = torch.stack([torch.stack([draw(key) for key in row]) for row in keys])
        assert torch.equal(vmap(vmap(draw))(keys), looped)
        assert torch.equal(vmap(vmap(draw), in_dims=1, out_dims=1)(keys), looped)
        assert torch.equal(vmap(vmap(draw, in_dims=1), in_dims=2)(keys.movedim(0, 2).movedim(0, 1)), looped)
        assert torch.equal(vmap(draw, chunk_size=2)(keys[0]), looped[0])
    assert looped.flatten(0, 1).unique(dim=0).shape[0] == 12, "each member has its own numbers"


# Each pure draw costs seconds to compile; the others differ only in what they do with the same words.
@pytest.mark.parametrize(
    ("backend", "single", "batched"),
    [
        ("pure", ("split", "uniform", "randint"), ("uniform",)),
        pytest.param("native", EXACT, EXACT, marks=needs_native),
    ],
)
def test_compiled_draws_have_the_same_bits(backend: str, single: tuple[str, ...], batched: tuple[str, ...]) -> None:
    torch.compiler.reset()

    def everything(key: Tensor, keys: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        with fr.random.compiled_draws_are(backend):
            return [DRAWS[name](key) for name in single], [vmap(DRAWS[name])(keys) for name in batched]

    key, keys = fr.random.key(9), fr.random.split(fr.random.key(8), 3)
    for_one, for_each = fr.jit(everything)(key, keys)
    for name, compiled in zip(single, for_one, strict=True):
        assert torch.equal(compiled, DRAWS[name](key)), name
    for name, compiled in zip(batched, for_each, strict=True):
        assert torch.equal(compiled, torch.stack([DRAWS[name](each) for each in keys])), name


def test_the_rounds_of_a_draw_are_not_traced_one_by_one(key: Tensor) -> None:
    traced: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
        traced.append(graph)
        return graph.forward

    drawn = _jit.traced(lambda key: fr.random.bits(key, (5,)), backend)(key)
    assert len(traced[0].graph.nodes) < 20, "ten rounds have 120 operators"
    assert torch.equal(drawn, fr.random.bits(key, (5,)))


@needs_cuda
@pytest.mark.parametrize("name", EXACT)
def test_a_gpu_draws_the_same_bits(name: str) -> None:
    key = fr.random.key(4)
    assert torch.equal(DRAWS[name](key.cuda()).cpu(), DRAWS[name](key))


@given(seed=SEEDS, num=st.integers(1, 20))
def test_fold_in_is_a_row_of_split(seed: int, num: int) -> None:
    key = fr.random.key(seed)
    rows = fr.random.split(key, num)
    folded = vmap(lambda data: fr.random.fold_in(key, data))(torch.arange(num))
    assert torch.equal(folded, rows)
    assert torch.equal(fr.random.fold_in(key, num - 1), rows[-1])


def test_fold_in_takes_any_64_bit_integer(key: Tensor) -> None:
    for data, same in ((-1, -1), (2**63 - 1, 2**63 - 1), (2**63, -(2**63)), (2**64 - 1, -1)):
        assert torch.equal(fr.random.fold_in(key, data), fr.random.fold_in(key, torch.tensor(same)))


@given(drawn=st.integers(0, 50), more=st.integers(1, 20))
def test_skip_continues_the_stream(drawn: int, more: int) -> None:
    key = fr.random.key(2)
    blocks = -(-drawn // 4) * 4
    stream = fr.random.bits(key, blocks + more)
    assert torch.equal(fr.random.bits(fr.random.skip(key, drawn), more), stream[blocks:])


@pytest.mark.parametrize(
    ("seed", "stored"), [(0, 0), (-1, -1), (2**63 - 1, 2**63 - 1), (2**64 - 1, -1), (2**63, -(2**63))]
)
def test_a_key_holds_its_seed(seed: int, stored: int) -> None:
    assert fr.random.key(seed).tolist() == [stored, 0]


def test_a_seed_may_be_a_batched_tensor() -> None:
    assert vmap(fr.random.key)(torch.tensor([3, 4])).tolist() == [[3, 0], [4, 0]]


def test_backend_is_restored_after_an_error() -> None:
    before = fr.random.backend()
    with pytest.raises(KeyError), fr.random.use_backend("pure"):
        raise KeyError
    assert fr.random.backend() == before


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_uniform_is_one_draw_in_every_dtype(key: Tensor, dtype: torch.dtype) -> None:
    drawn = fr.random.uniform(key, (100,), dtype=dtype)
    assert drawn.dtype == dtype
    rounded = fr.random.uniform(key, (100,)).to(dtype)
    assert torch.equal(drawn, torch.where(rounded == 1, 1 - torch.finfo(dtype).eps / 2, rounded))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 0.0), (0.5, 1.5), (-8.0, -7.0), (60.0, 61.0), (1.0, 1.0)])
def test_uniform_never_reaches_high(dtype: torch.dtype, low: float, high: float) -> None:
    """Half of the interval's last step is rounded up to its end: in 16 bits, one of 256 or 2048 draws."""
    drawn = fr.random.uniform(fr.random.key(3), (200_000,), low=low, high=high, dtype=dtype)
    assert float(drawn.min()) >= low
    assert float(drawn.max()) < high or low == high
    bounds = torch.tensor([[low, high], [low, high]], dtype=dtype)
    keys = fr.random.key(3).expand(2, 2)
    each = torch.func.vmap(lambda key, low, high: fr.random.uniform(key, (100,), low=low, high=high, dtype=dtype))
    assert torch.equal(
        each(keys, *bounds.T)[1], fr.random.uniform(fr.random.key(3), (100,), low=low, high=high, dtype=dtype)
    )


def test_uniform_interval_may_be_batched(key: Tensor) -> None:
    low, high = torch.tensor([-2.0, 5.0]), torch.tensor([-1.0, 9.0])
    batched = vmap(lambda a, b: fr.random.uniform(key, (1000,), low=a, high=b))(low, high)
    for row, a, b in zip(batched, low, high, strict=True):
        assert torch.equal(row, fr.random.uniform(key, (1000,), low=float(a), high=float(b)))
        assert bool((row >= a).all())
        assert bool((row < b).all())


@pytest.mark.parametrize("shape", [(), (0,), 3, (2, 0, 3), [2, 2]])
def test_any_shape_can_be_drawn(key: Tensor, shape: int | tuple[int, ...]) -> None:
    expected = torch.empty(shape).shape
    for draw in (fr.random.uniform, fr.random.normal, fr.random.bits):
        assert draw(key, shape).shape == expected


def test_numbers_stay_within_their_range(key: Tensor) -> None:
    drawn = fr.random.uniform(key, (200_000,))
    assert 0 <= float(drawn.min()) < float(drawn.max()) < 1
    for low, high in ((-2.0, 2.0), (0.5, 1.0), (-6.0, -4.0), (9.0, 10.0)):
        drawn = fr.random.truncated_normal(key, (20_000,), low=low, high=high, dtype=torch.float64)
        assert low <= float(drawn.min()) < float(drawn.max()) <= high
    for low, high in ((0, 7), (-3, 4), (2**40, 2**40 + 5)):
        drawn = fr.random.randint(key, (1000,), low, high)
        assert (int(drawn.min()), int(drawn.max())) == (low, high - 1)
    assert fr.random.randint(key, (3,), 5, 6).tolist() == [5, 5, 5]
    for dtype in (torch.float32, torch.float64):
        alpha = torch.full((50_000,), 0.3, dtype=dtype)
        assert float(fr.random.gamma(key, alpha).min()) >= 0
        assert 0 <= float(fr.random.beta(key, alpha, alpha).min()) < float(fr.random.beta(key, alpha, alpha).max()) <= 1


def test_certainties_are_exact(key: Tensor) -> None:
    never, always = vmap(lambda p: fr.random.bernoulli(key, p, (100_000,)))(torch.tensor([0.0, 1.0]))
    assert never.dtype == torch.bool
    assert not bool(never.any())
    assert bool(always.all())
    assert fr.random.bernoulli(key, torch.ones(2, 3)).shape == (2, 3)
    excluded = torch.tensor([0.0, 1.0, -torch.inf]).expand(100_000, 3)
    assert fr.random.categorical(key, excluded).unique().tolist() == [0, 1]


def test_gamma_and_beta_have_the_dtype_of_their_parameters(key: Tensor) -> None:
    for dtype in (torch.float32, torch.float64):
        assert fr.random.gamma(key, torch.ones(2, dtype=dtype)).dtype == dtype
        assert fr.random.beta(key, torch.ones(2, dtype=dtype), 1.0).dtype == torch.promote_types(dtype, torch.float32)


def test_members_are_independent(key: Tensor) -> None:
    drawn = vmap(lambda k: fr.random.uniform(k, (20_000,)))(fr.random.split(key, 30))
    off_diagonal = torch.corrcoef(drawn)[~torch.eye(30, dtype=torch.bool)]
    assert float(off_diagonal.abs().max()) < 4.5 / math.sqrt(20_000)  # the largest of 435 normal deviates


def test_normal_takes_mean_and_std_from_a_batch(key: Tensor) -> None:
    mean, std = torch.tensor([1.0, -3.0]), torch.tensor([0.5, 2.0])
    batched = vmap(lambda m, s: fr.random.normal(key, (5,), mean=m, std=s))(mean, std)
    assert torch.equal(batched, mean[:, None] + std[:, None] * fr.random.normal(key, (5,)))


@given(n=st.integers(1, 3000))
def test_a_permutation_holds_each_index_once(n: int) -> None:
    assert torch.equal(fr.random.permutation(fr.random.key(n), n).sort().values, torch.arange(n))


def test_gamma_and_beta_take_batched_parameters(key: Tensor) -> None:
    alphas = torch.tensor([0.1, 1.0, 30.0])
    batched = vmap(lambda alpha: fr.random.gamma(key, alpha, (4,)))(alphas)
    torch.testing.assert_close(batched, torch.stack([fr.random.gamma(key, float(alpha), (4,)) for alpha in alphas]))
    pairs = vmap(lambda alpha: fr.random.beta(key, alpha, 2.0))(alphas)
    torch.testing.assert_close(pairs, torch.stack([fr.random.beta(key, float(alpha), 2.0) for alpha in alphas]))


def test_a_compiled_chain_of_splits_has_the_same_bits() -> None:
    def chain(key: Tensor) -> Tensor:
        first, second = fr.random.split(key)
        return fr.random.uniform(fr.random.split(fr.random.fold_in(second, 3), 1)[0], (8, 8)) + first[0] * 0

    key = fr.random.key(7)
    assert torch.equal(fr.jit(chain)(key), chain(key))


def test_a_class_that_is_excluded_is_never_drawn() -> None:
    """Not even by the words that round up to a uniform of 1, found among the first draws of many keys."""
    logits = torch.tensor([-torch.inf, 0.0])
    assert int(fr.random.categorical(torch.tensor([11, 858091]), logits)) == 1
    extreme = torch.full((2,), 2**32 - 1)
    for words in (extreme, torch.zeros(2, dtype=torch.int64), extreme * torch.tensor([1, 0])):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(execution, "words", lambda key, shape, words=words: words)
            for row in (logits, logits.flip(0), logits.double()):
                assert int(fr.random.categorical(fr.random.key(0), row)) == int(row.argmax())
    compiled = fr.jit(fr.random.categorical)(
        fr.random.key(0), torch.tensor([[-torch.inf] * 2, [0.0, torch.nan], [1.0, 2.0]])
    )
    assert compiled[:2].tolist() == [-1, -1]
    assert int(compiled[2]) in (0, 1)


@pytest.mark.parametrize("word", [0, 1, 2**24 - 1, 2**32 - 129, 2**32 - 1])
def test_draws_from_the_first_and_the_last_words_are_finite_and_in_range(word: int) -> None:
    def extreme(key: Tensor, shape: tuple[int, ...]) -> Tensor:
        return torch.full(shape, word)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "words", extreme)
        patch.setattr(execution, "uniform", lambda key, shape: (extreme(key, shape) & 0xFFFFFF) * 2.0**-24)
        key = fr.random.key(0)
        for dtype in (torch.float32, torch.float64):
            assert bool(fr.random.normal(key, (4,), dtype=dtype).isfinite().all())
            for low, high in ((-2.0, 2.0), (3.0, 30.0), (-30.0, -3.0), (-37.0, 37.0)):
                drawn = fr.random.truncated_normal(key, (4,), low=low, high=high, dtype=dtype)
                assert bool(((low <= drawn) & (drawn <= high)).all())
            for alpha in (0.05, 1.0, 50.0):
                concentration = torch.tensor(alpha, dtype=dtype)
                assert bool(fr.random.gamma(key, concentration, (4,)).isfinite().all())
                drawn = fr.random.beta(key, concentration, concentration, (4,))
                assert bool(((drawn >= 0) & (drawn <= 1)).all())
        assert not bool(fr.random.bernoulli(key, 0.0, (4,)).any())
        assert bool(fr.random.bernoulli(key, 1.0, (4,)).all())
        assert int(fr.random.randint(key, (), 3, 7)) in range(3, 7)
        assert 0 <= float(fr.random.uniform(key)) < 1


def test_classes_do_not_depend_on_what_is_added_to_all_logits() -> None:
    """Where the sum of a logit and its noise would be rounded to the logit."""
    logits = fr.random.randint(fr.random.key(1), (2000, 3), 0, 16) / 8  # exact beside 2**20, and far from it
    drawn = fr.random.categorical(fr.random.key(2), logits)
    assert torch.equal(fr.random.categorical(fr.random.key(2), logits + 2**20), drawn)
    assert fr.random.categorical(fr.random.key(2), torch.full((2000, 2), 3e38)).float().mean() == pytest.approx(
        0.5, abs=0.05
    )


def test_an_interval_may_be_wider_than_its_dtype() -> None:
    for dtype in (torch.float16, torch.float32, torch.float64):
        most = torch.finfo(dtype).max
        unit = fr.random.uniform(fr.random.key(3), 1000, dtype=torch.float64)
        drawn = fr.random.uniform(fr.random.key(3), 1000, low=-most, high=most, dtype=dtype)
        torch.testing.assert_close(drawn.double() / most, 2 * unit - 1, rtol=0, atol=torch.finfo(dtype).eps)

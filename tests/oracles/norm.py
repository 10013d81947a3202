"""`norm` against torch, its parametrizations, scikit-learn and singular value decompositions."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler
from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.nn.utils import parametrizations

import funcreg as fr
from funcreg import norm
from tests.oracles import Pair, oracle

REORDERED = "float64; sums in another order"


def _drawn(seed: int, *shape: int) -> Tensor:
    return fr.random.normal(fr.random.key(seed), shape, dtype=torch.float64)


SEQUENCES, IMAGES = 3 * _drawn(1, 6, 4, 5) + 2, 3 * _drawn(2, 3, 4, 5, 6) + 2
VOLUMES, ROWS = 3 * _drawn(3, 3, 4, 2, 3, 5) + 2, 3 * _drawn(4, 6, 4) + 2


def _both(ours: Callable[..., Tensor], theirs: Callable[..., Tensor], *given: Tensor) -> Pair:
    """Values of two functions, and gradients, by torch.func and by autograd."""
    value = ours(*given)
    direction = _drawn(99, *value.shape).to(value.dtype)
    slopes = grad(lambda *given: (ours(*given) * direction).sum(), argnums=tuple(range(len(given))))(*given)
    leaves = [each.clone().requires_grad_() for each in given]
    other = theirs(*leaves)
    return (value, slopes), (other, torch.autograd.grad((other * direction).sum(), leaves))


# Activations


def _stats(module: nn.Module) -> norm.BatchStats:
    buffers = dict(module.named_buffers())
    return norm.BatchStats(*(buffers[name].clone() for name in ("running_mean", "running_var", "num_batches_tracked")))


@oracle("norm.init_batch_stats", against="torch.nn.BatchNorm1d's buffers", tolerance=0, because="constants")
def init_batch_stats() -> Pair:
    return tuple(norm.init_batch_stats(3)), tuple(_stats(nn.BatchNorm1d(3)))


def _twenty_steps(make: Any, x: Tensor, momentum: float | None, affine: bool) -> Pair:
    """Results, and running statistics as changes from the start; and what evaluation then gives."""
    module = make(4, momentum=momentum, affine=affine, dtype=torch.float64)
    scale, shift = (_drawn(5, 4), _drawn(6, 4)) if affine else (None, None)
    if scale is not None and shift is not None:
        module.load_state_dict({**module.state_dict(), "weight": scale, "bias": shift})
    stats = start = _stats(module)
    ours, theirs = [], []
    for step in range(20):
        batch = x * (1 + step / 10) + step
        y, stats = norm.batch_norm(batch, stats, scale=scale, shift=shift, train=True, momentum=momentum)
        ours.append(y)
        theirs.append(module(batch))
    moved = _stats(module)
    assert int(stats.count) == int(moved.count) == 20
    assert momentum == 0 or float((moved.mean - start.mean).abs().min()) > 0.1, "the reference moved"
    ours += [stats.mean - start.mean, norm.batch_norm(x, stats, scale=scale, shift=shift, train=False)[0]]
    theirs += [moved.mean - start.mean, module.eval()(x)]
    return (ours, stats.var), (theirs, moved.var)


for _make, _x in (
    (nn.BatchNorm1d, ROWS),
    (nn.BatchNorm1d, SEQUENCES),
    (nn.BatchNorm2d, IMAGES),
    (nn.BatchNorm3d, VOLUMES),
):

    @oracle(
        "norm.batch_norm",
        against=f"torch.nn.{_make.__name__} on {_x.ndim} axes, 20 steps and an evaluation",
        tolerance=1e-11,
        because="float64; values of up to 60, in another order",
    )
    def batch_norm(make: Any = _make, x: Tensor = _x) -> Pair:
        each = [_twenty_steps(make, x, m, affine) for m in (0.1, 0.0, 1.0, None) for affine in (True, False)]
        return [ours for ours, _ in each], [theirs for _, theirs in each]

    for _train in (True, False):

        @oracle(
            "norm.batch_norm",
            against=f"torch.nn.{_make.__name__} on {_x.ndim} axes, {'training' if _train else 'evaluation'}: gradients",
            tolerance=1e-12,
            because=REORDERED,
        )
        def batch_norm_slopes(make: Any = _make, x: Tensor = _x, train: bool = _train) -> Pair:
            module = make(4, dtype=torch.float64).train(train)
            stats = _stats(module)
            return _both(
                lambda x, scale, shift: norm.batch_norm(x, stats, scale=scale, shift=shift, train=train)[0],
                lambda x, scale, shift: functional_call(module, {"weight": scale, "bias": shift}, x),
                *(x, _drawn(5, 4), _drawn(6, 4)),
            )


@oracle(
    "norm.layer_norm",
    against="torch.nn.functional.layer_norm, values and gradients",
    tolerance=1e-12,
    because=REORDERED,
)
def layer_norm() -> Pair:
    """By its kernel, and by the formula that serves when eps is a tensor."""

    def pair(dims: int, eps: Any) -> Pair:
        shape = IMAGES.shape[-dims:]
        return _both(
            lambda x, scale, shift: norm.layer_norm(x, scale=scale, shift=shift, dims=dims, eps=eps),
            lambda x, scale, shift: F.layer_norm(x, shape, scale, shift, float(eps)),
            *(IMAGES, _drawn(7, *shape), _drawn(8, *shape)),
        )

    each = [pair(dims, eps) for dims in (1, 2, 3) for eps in (1e-5, 0.3, torch.tensor(0.3, dtype=torch.float64))]
    return [ours for ours, _ in each], [theirs for _, theirs in each]


@oracle(
    "norm.layer_norm",
    against="torch.nn.functional.layer_norm in bfloat16",
    tolerance=0,
    because="float32 and one rounding, there too",
)
def layer_norm_of_bfloat16() -> Pair:
    x, scale, shift = (each.to(torch.bfloat16) for each in (SEQUENCES, _drawn(7, 5), _drawn(8, 5)))
    return norm.layer_norm(x, scale=scale, shift=shift), F.layer_norm(x, (5,), scale, shift)


@oracle(
    "norm.rms_norm", against="torch.nn.functional.rms_norm, values and gradients", tolerance=1e-12, because=REORDERED
)
def rms_norm() -> Pair:
    def pair(dims: int, eps: Any) -> Pair:
        shape = IMAGES.shape[-dims:]
        return _both(
            lambda x, scale: norm.rms_norm(x, scale=scale, dims=dims, eps=eps),
            lambda x, scale: F.rms_norm(x, shape, scale, float(eps)),
            *(IMAGES, _drawn(7, *shape)),
        )

    each = [pair(dims, eps) for dims in (1, 2, 3) for eps in (1e-6, torch.tensor(0.3, dtype=torch.float64))]
    plain = norm.rms_norm(IMAGES), F.rms_norm(IMAGES, (6,), eps=1e-6)
    return [plain[0], *(ours for ours, _ in each)], [plain[1], *(theirs for _, theirs in each)]


@oracle(
    "norm.group_norm",
    against="torch.nn.functional.group_norm, values and gradients",
    tolerance=1e-12,
    because=REORDERED,
)
def group_norm() -> Pair:
    def pair(x: Tensor, groups: int, eps: Any) -> Pair:
        return _both(
            lambda x, scale, shift: norm.group_norm(x, groups, scale=scale, shift=shift, eps=eps),
            lambda x, scale, shift: F.group_norm(x, groups, scale, shift, float(eps)),
            *(x, _drawn(7, 4), _drawn(8, 4)),
        )

    sizes = [(ROWS, 1), (ROWS, 2), (SEQUENCES, 4), (IMAGES, 2), (VOLUMES, 1)]
    each = [pair(x, groups, eps) for x, groups in sizes for eps in (1e-5, torch.tensor(0.3, dtype=torch.float64))]
    return [ours for ours, _ in each], [theirs for _, theirs in each]


@oracle(
    "norm.instance_norm",
    against="torch.nn.functional.instance_norm, values and gradients",
    tolerance=1e-12,
    because=REORDERED,
)
def instance_norm() -> Pair:
    def pair(x: Tensor, eps: Any) -> Pair:
        return _both(
            lambda x, scale, shift: norm.instance_norm(x, scale=scale, shift=shift, eps=eps),
            lambda x, scale, shift: F.instance_norm(x, None, None, scale, shift, eps=float(eps)),
            *(x, _drawn(7, 4), _drawn(8, 4)),
        )

    each = [
        pair(x, eps)
        for x in (SEQUENCES, IMAGES, VOLUMES)
        for eps in (1e-5, torch.tensor(0.3, dtype=torch.float64))
    ]  # fmt: skip
    return [ours for ours, _ in each], [theirs for _, theirs in each]


# Weights

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "Linear": lambda: nn.Linear(7, 5),
    "Conv2d": lambda: nn.Conv2d(3, 5, (2, 3)),
    "ConvTranspose2d, dim=1": lambda: nn.ConvTranspose2d(3, 5, (2, 3)),
}


def _layer(make: Callable[[], nn.Module]) -> Any:
    layer: Any = make().double()
    layer.weight.data = _drawn(10, *layer.weight.shape)
    return layer


@oracle(
    "norm.weight_norm",
    against="torch.nn.utils.parametrizations.weight_norm: of a linear, a convolution's, a transposed one's weight, "
    "by unit, by input and whole; and gradients",
    tolerance=1e-13,
    because="float64; one rounding",
)
def weight_norm() -> Pair:
    def pair(make: Callable[[], nn.Module], dim: int | None) -> Pair:
        layer: Any = parametrizations.weight_norm(_layer(make), dim=dim)  # pyright: ignore[reportArgumentType]
        entry = layer.parametrizations.weight
        magnitude, direction = _drawn(11, *entry.original0.shape), entry.original1.detach()

        def theirs(direction: Tensor, magnitude: Tensor) -> Tensor:
            return entry[0](magnitude, direction)

        return _both(lambda d, m: norm.weight_norm(d, m, dim=dim), theirs, direction, magnitude)

    each = [pair(make, dim) for make in LAYERS.values() for dim in (0, 1, None)]
    return [ours for ours, _ in each], [theirs for _, theirs in each]


def _spectral_steps(make: Callable[[], nn.Module], dim: int, steps: int, dtype: torch.dtype) -> Pair:
    """Weight, u and v after each of several steps, and the gradient, while the weight moves; then in evaluation."""
    layer: Any = parametrizations.spectral_norm(_layer(make), n_power_iterations=steps).to(dtype)
    entry, original = layer.parametrizations.weight[0], layer.parametrizations.weight.original
    for seed, vector in enumerate((entry._u, entry._v)):
        vector.copy_(F.normalize(_drawn(40 + seed, *vector.shape), dim=0))
    state = start = norm.SpectralState(entry._u.clone(), entry._v.clone())
    ours: list[Any] = []
    theirs: list[Any] = []

    def step(weight: Tensor, direction: Tensor) -> Any:
        scaled, after = norm.spectral_norm(weight, state, steps=steps if layer.training else 0, dim=dim)
        return (scaled * direction).sum(), (scaled, after)

    for number in range(6):
        layer.train(number < 5)
        direction = _drawn(20 + number, *original.shape).to(dtype)
        slope, (scaled, state) = grad(step, has_aux=True)(original.detach().clone(), direction)
        ours.append((slope, scaled, tuple(state)))
        weight = layer.weight
        (slope,) = torch.autograd.grad((weight * direction).sum(), original)
        theirs.append((slope, weight.detach(), (entry._u.clone(), entry._v.clone())))
        original.data = original.data - 0.3 * _drawn(30 + number, *original.shape).to(dtype)
    assert float((entry._u - start.u).norm()) > 0.1, "the reference moved"
    return ours, theirs


for _name, _make in LAYERS.items():

    @oracle(
        "norm.spectral_norm",
        against=f"torch.nn.utils.parametrizations.spectral_norm of a {_name}: five steps and an evaluation; gradients",
        tolerance=1e-13,
        because=REORDERED,
    )
    def spectral_norm(make: Callable[[], nn.Module] = _make, dim: int = int("dim=1" in _name)) -> Pair:
        each = [_spectral_steps(make, dim, steps, torch.float64) for steps in (1, 3)]
        return [ours for ours, _ in each], [theirs for _, theirs in each]


@oracle(
    "norm.spectral_norm",
    against="torch.nn.utils.parametrizations.spectral_norm in float32, five steps and an evaluation; gradients",
    tolerance=3e-6,
    because="float32; sums in another order",
)
def spectral_norm_in_float32() -> Pair:
    return _spectral_steps(LAYERS["Conv2d"], 0, 1, torch.float32)


@oracle(
    "norm.spectral_norm",
    against="numpy.linalg.svd: W / sigma_1 and its gradient, after 500 steps",
    tolerance=1e-12,
    because="a power step divides the error by (sigma_1 / sigma_2)**2",
)
def spectral_norm_at_the_end() -> Pair:
    weight, direction = _drawn(12, 6, 9), _drawn(13, 6, 9)
    state = norm.init_spectral_state(weight, key=fr.random.key(0), steps=0)

    def ours(weight: Tensor) -> Tensor:
        return norm.spectral_norm(weight, state, steps=500)[0]

    u, s, vh = (torch.from_numpy(each) for each in np.linalg.svd(weight.numpy(), full_matrices=False))
    slope = direction / s[0] - (direction * weight).sum() / s[0] ** 2 * torch.outer(u[:, 0], vh[0])
    return (ours(weight), grad(lambda w: (ours(w) * direction).sum())(weight)), (weight / s[0], slope)


@oracle(
    "norm.init_spectral_state",
    against="numpy.linalg.svd: u_1 and v_1, after 500 steps",
    tolerance=1e-12,
    because="a power step divides the error by (sigma_1 / sigma_2)**2",
)
def init_spectral_state() -> Pair:
    weight = _drawn(12, 6, 3, 3)
    state = norm.init_spectral_state(weight, key=fr.random.key(0), steps=500)
    u, _, vh = (torch.from_numpy(each) for each in np.linalg.svd(weight.flatten(1).numpy(), full_matrices=False))
    sign = torch.sign(u[:, 0] @ state.u)
    return tuple(state), (sign * u[:, 0], sign * vh[0])


# Inputs

# Two constant features: one whose mean is exact, and one whose is not.
FEATURES = torch.cat([ROWS * _drawn(14, 4).exp(), torch.full((6, 1), 3.0), torch.full((6, 1), 0.1)], dim=1).double()
OTHERS = _drawn(15, 9, 6)


@oracle("norm.fit_standard", against="scikit-learn's StandardScaler", tolerance=1e-13, because=REORDERED)
def fit_standard() -> Pair:
    scaler = StandardScaler().fit(FEATURES.numpy())
    return tuple(norm.fit_standard(FEATURES)), (torch.tensor(scaler.mean_), 1 / torch.tensor(scaler.scale_))


@oracle("norm.fit_min_max", against="scikit-learn's MinMaxScaler", tolerance=1e-12, because="offset and factor apart")
def fit_min_max() -> Pair:
    ours, theirs = [], []
    for low, high in ((0.0, 1.0), (-2.0, 5.0)):
        scaler = MinMaxScaler(feature_range=(low, high)).fit(FEATURES.numpy())  # pyright: ignore[reportArgumentType]
        offset, factor = norm.fit_min_max(FEATURES, low=low, high=high)
        ours.append((factor, -offset * factor))
        theirs.append((torch.tensor(scaler.scale_), torch.tensor(scaler.min_)))
    return ours, theirs


@oracle(
    "norm.apply_scaling",
    against="scikit-learn's transform, of the data that was fitted and of other data",
    tolerance=1e-12,
    because="(x - offset) * factor where they divide, or multiply and add",
)
def apply_scaling() -> Pair:
    standard, stretched = norm.fit_standard(FEATURES), norm.fit_min_max(FEATURES, low=-2.0, high=5.0)
    by_mean, by_range = StandardScaler().fit(FEATURES.numpy()), MinMaxScaler((-2, 5)).fit(FEATURES.numpy())
    each = [(norm.apply_scaling(x, s), m.transform(x.numpy())) for x in (FEATURES, OTHERS)
            for s, m in ((standard, by_mean), (stretched, by_range))]  # fmt: skip
    return [ours for ours, _ in each], [torch.from_numpy(theirs) for _, theirs in each]


@oracle("norm.apply_scaling", against="scikit-learn's StandardScaler, rounded to 16 bits", tolerance=0, because="exact")
def apply_scaling_in_16_bits() -> Pair:
    x = FEATURES.bfloat16()
    scaling = norm.Scaling(*(each.bfloat16() for each in norm.fit_standard(x)))
    theirs = StandardScaler()
    theirs.mean_, theirs.scale_ = scaling.offset.double().numpy(), 1 / scaling.factor.double().numpy()
    return norm.apply_scaling(x, scaling), torch.from_numpy(theirs.transform(x.double().numpy())).bfloat16()


@oracle(
    "norm.unit_norm", against="scikit-learn's Normalizer in float64, any scale", tolerance=1e-6, because="a float32"
)
def unit_norm_of_any_scale() -> Pair:
    theirs = torch.from_numpy(Normalizer("l2").transform(ROWS.numpy())).float()
    return [norm.unit_norm((size * ROWS).float()) for size in (1e-35, 1e-30, 1e30, 1e37)], 4 * [theirs]


@oracle("norm.unit_norm", against="scikit-learn's Normalizer: l2, l1 and max", tolerance=1e-15, because="one division")
def unit_norm() -> Pair:
    rows = torch.cat([ROWS, torch.zeros(1, 4)])
    orders = {"l2": 2.0, "l1": 1.0, "max": math.inf}
    theirs = {name: torch.from_numpy(Normalizer(name).transform(rows.numpy())) for name in orders}  # pyright: ignore
    ours = {name: norm.unit_norm(rows, order=order) for name, order in orders.items()}
    columns = {name: norm.unit_norm(rows.T, order=order, dim=0).T for name, order in orders.items()}
    return (ours, columns), (theirs, theirs)

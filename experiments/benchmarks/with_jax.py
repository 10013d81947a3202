"""JAX's contenders: the same models and the same work, as users of JAX and optax write them.

Parameters are a pytree, a step is one `jit`, and members and samples go by `vmap`, by `lax.map`, or by
`lax.map` of 8 at a time: workloads have all of these, and the fastest counts. Keys are threefry's, JAX's
default and the fastest on a CPU: `dropout` has its other generator, rbg, beside it.
Imported in a process of its own (`jax_process`), and imports no torch.
"""

import itertools
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax  # pyright: ignore[reportMissingImports]  (may be absent)
import jax.numpy as jnp  # pyright: ignore[reportMissingImports]  (may be absent)
import optax  # pyright: ignore[reportMissingImports]  (may be absent)

from . import sizes

Run = Callable[[], object]
Tree = Any


def dropout(x: jax.Array, rate: Any, key: jax.Array) -> jax.Array:
    """Inverted dropout."""
    keep = 1 - rate
    return jnp.where(jax.random.bernoulli(key, keep, x.shape), x / keep, 0.0)


def linear_params(key: jax.Array, widths: Sequence[int]) -> Tree:
    """Weights and biases as torch's linear layers draw them."""
    params = []
    for layer_key, (inputs, outputs) in zip(
        jax.random.split(key, len(widths) - 1), itertools.pairwise(widths), strict=True
    ):
        weight_key, bias_key = jax.random.split(layer_key)
        bound = inputs**-0.5
        params.append(
            {
                "weight": jax.random.uniform(weight_key, (inputs, outputs), minval=-bound, maxval=bound),
                "bias": jax.random.uniform(bias_key, (outputs,), minval=-bound, maxval=bound),
            }
        )
    return params


def mlp(params: Tree, x: jax.Array, key: jax.Array, rate: Any) -> jax.Array:
    """Linear, ReLU and dropout for each hidden width, then a linear layer."""
    *hidden, last = params
    for layer, layer_key in zip(hidden, jax.random.split(key, len(hidden)), strict=True):
        x = dropout(jax.nn.relu(x @ layer["weight"] + layer["bias"]), rate, layer_key)
    return x @ last["weight"] + last["bias"]


def cross_entropy(logits: jax.Array, y: jax.Array) -> jax.Array:
    """Mean over the batch."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def mlp_loss(params: Tree, state: Tree, key: jax.Array, x: jax.Array, y: jax.Array, hparams: Tree) -> Any:
    """(loss, state) of the MLP."""
    return cross_entropy(mlp(params, x, key, hparams["rate"]), y), state


def adam(hparams: Tree) -> optax.GradientTransformation:
    """Adam with coupled decay; its numbers may be traced."""
    return optax.chain(optax.add_decayed_weights(hparams["decay"]), optax.adam(hparams["lr"]))


def training_step(loss_fn: Callable[..., Any], *, radius: float | None = None) -> Callable[..., Any]:
    """(carry, x, y, hparams) -> (carry, loss), carry being (params, state, opt_state, key); a radius makes it SAM."""

    def step(carry: Tree, x: jax.Array, y: jax.Array, hparams: Tree) -> Any:
        params, state, opt_state, key = carry
        key, noise = jax.random.split(key)
        value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, new_state), grads = value_and_grad(params, state, noise, x, y, hparams)
        if radius is not None:
            scale = radius / (optax.global_norm(grads) + 1e-12)
            above = jax.tree.map(lambda p, g: p + scale * g, params, grads)
            grads = jax.grad(loss_fn, has_aux=True)(above, state, noise, x, y, hparams)[0]
        updates, opt_state = adam(hparams).update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), new_state, opt_state, key), loss

    return step


def start(params: Tree, state: Tree = (), *, seed: int = 1) -> Tree:
    """The first carry of one model."""
    return params, state, adam(sizes.SETTINGS).init(params), jax.random.key(seed)


def start_members(make: Callable[[jax.Array], Tree], members: int) -> Tree:
    """The first carries of all members, stacked; `make` gives a key's (params, state)."""
    params, state = jax.vmap(make)(jax.random.split(jax.random.key(0), members))
    keys = jax.random.split(jax.random.key(1), members)
    return params, state, jax.vmap(adam(sizes.SETTINGS).init)(params), keys


def advance(program: Callable[..., Any], first: Tree, *inputs: Any, donated: bool = False, steps: int = 1) -> Run:
    """A function of nothing that takes the next step each time, or the next few."""
    current, count = jax.tree.map(jnp.copy, first), 0

    def run() -> None:
        nonlocal current, count
        count += steps
        if count % sizes.RESTART == 0:
            current = jax.tree.map(jnp.copy, first) if donated else first
        current, loss = program(current, *inputs)
        loss.block_until_ready()

    return run


def classification(shape: tuple[int, ...], classes: int) -> tuple[jax.Array, jax.Array]:
    """Normal inputs of a shape, with random classes."""
    x_key, y_key = jax.random.split(jax.random.key(7))
    return jax.random.normal(x_key, shape), jax.random.randint(y_key, shape[:1], 0, classes)


def swept(members: int) -> Tree:
    """Hyperparameters of all members."""
    return {name: jnp.linspace(low, high, members) for name, (low, high) in sizes.SWEPT.items()}


def over_members(step: Callable[..., Any], how: str) -> Callable[..., Any]:
    """A step of all members: (carries, x, y, hparams) -> (carries, losses)."""
    if how == "vmap":
        return jax.vmap(step, in_axes=(0, None, None, 0))
    size = {"map": None, "map by 8": 8}[how]
    return lambda carries, x, y, hparams: jax.lax.map(
        lambda member: step(member[0], x, y, member[1]), (carries, hparams), batch_size=size
    )


MAPS = ("vmap", "map", "map by 8")


def steps(loss_fn: Callable[..., Any], first: Tree, batch: Any, **options: Any) -> dict[str, Run]:
    """A step, jitted, and with its first argument's memory given away."""
    step = training_step(loss_fn, **options)
    bound = lambda carry, x, y: step(carry, x, y, sizes.SETTINGS)  # noqa: E731  (numbers are constants, as users write)
    return {
        "JAX jit": advance(jax.jit(bound), first, *batch),
        "JAX jit, donated": advance(jax.jit(bound, donate_argnums=0), first, *batch, donated=True),
    }


def dropout_draw() -> dict[str, Run]:
    """Dropout alone, by each of JAX's generators."""
    x = jax.random.normal(jax.random.key(0), sizes.DROPOUT)
    program = jax.jit(lambda x, key: dropout(x, sizes.RATE, key))

    def run(key: jax.Array) -> object:
        return program(x, key).block_until_ready()

    generators = {"JAX jit": "threefry2x32", "JAX jit, rbg": "rbg"}
    return {name: partial(run, jax.random.key(1, impl=generator)) for name, generator in generators.items()}


def mlp_step(widths: Sequence[int], size: int) -> dict[str, Run]:
    """A step of an MLP."""
    return steps(
        mlp_loss, start(linear_params(jax.random.key(0), widths)), classification((size, widths[0]), widths[-1])
    )


def mlp_scan(widths: Sequence[int], size: int) -> Run:
    """As many steps as lie between two restarts in one program: what a loop over one batch allows."""
    step = training_step(mlp_loss)

    def several(carry: Tree, x: jax.Array, y: jax.Array) -> Any:
        return jax.lax.scan(lambda c, _: step(c, x, y, sizes.SETTINGS), carry, length=sizes.RESTART)

    first = start(linear_params(jax.random.key(0), widths))
    return advance(jax.jit(several), first, *classification((size, widths[0]), widths[-1]), steps=sizes.RESTART)


def mlp_sweep(widths: Sequence[int], size: int, members: int, hows: Sequence[str] = MAPS) -> dict[str, Run]:
    """A step of many MLPs, each with its own rate, decay and learning rate."""
    first = start_members(lambda key: (linear_params(key, widths), ()), members)
    inputs = (*classification((size, widths[0]), widths[-1]), swept(members))
    step = training_step(mlp_loss)
    return {f"JAX {how}": advance(jax.jit(over_members(step, how)), first, *inputs) for how in hows}


def monte_carlo(widths: Sequence[int], size: int, samples: int, hows: Sequence[str] = MAPS) -> dict[str, Run]:
    """Mean and variance of the softmax, entropies and mutual information over noisy forward passes."""
    params, key = linear_params(jax.random.key(0), widths), jax.random.key(1)
    x, _ = classification((size, widths[0]), widths[-1])

    def predict(how: str, params: Tree, x: jax.Array, key: jax.Array) -> Tree:
        def draw(key: jax.Array) -> jax.Array:
            return jax.nn.softmax(mlp(params, x, key, sizes.RATE))

        keys = jax.random.split(key, samples)
        size = {"vmap": samples, "map": None, "map by 8": 8}[how]
        drawn = jax.vmap(draw)(keys) if how == "vmap" else jax.lax.map(draw, keys, batch_size=size)
        mean = drawn.mean(0)
        entropy, expected = _entropy(mean), _entropy(drawn).mean(0)
        return mean, drawn.var(0, ddof=1), entropy, expected, entropy - expected

    def run(program: Callable[..., Tree]) -> object:
        return jax.block_until_ready(program(params, x, key))

    return {f"JAX {how}": partial(run, jax.jit(partial(predict, how))) for how in hows}


def _entropy(probabilities: jax.Array) -> jax.Array:
    return jax.scipy.special.entr(probabilities).sum(-1)


def spectral_loss(params: Tree, state: Tree, key: jax.Array, x: jax.Array, y: jax.Array, hparams: Tree) -> Any:
    """Every weight divided by an estimate of its norm, from one power step a call."""
    vectors = []
    for index, (layer, u) in enumerate(zip(params, state, strict=True)):
        weight = jax.lax.stop_gradient(layer["weight"])
        v = _unit(weight @ u)
        u = _unit(v @ weight)
        vectors.append(u)
        x = x @ (layer["weight"] / (v @ layer["weight"] @ u)) + layer["bias"]
        x = x if index == len(params) - 1 else jax.nn.leaky_relu(x, 0.2)
    return cross_entropy(x, y), vectors


def _unit(vector: jax.Array) -> jax.Array:
    return vector / (jnp.linalg.norm(vector) + 1e-12)


def discriminator_step() -> dict[str, Run]:
    """A step of a spectrally normalised discriminator."""
    widths = sizes.DISCRIMINATOR
    keys = jax.random.split(jax.random.key(2), len(widths) - 1)
    vectors = [_unit(jax.random.normal(key, (width,))) for key, width in zip(keys, widths[1:], strict=True)]
    first = start(linear_params(jax.random.key(0), widths), vectors)
    return steps(spectral_loss, first, classification((sizes.DISCRIMINATOR_BATCH, widths[0]), widths[-1]))


def convolutional(key: jax.Array) -> Tree:
    """(params, state) of convolutions with batch norm, channels last, which is JAX's own order."""
    keys = jax.random.split(key, len(sizes.CHANNELS))
    layers, statistics = [], []
    for layer_key, (inputs, outputs) in zip(keys[1:], itertools.pairwise(sizes.CHANNELS), strict=True):
        bound = (9 * inputs) ** -0.5
        kernel = jax.random.uniform(layer_key, (3, 3, inputs, outputs), minval=-bound, maxval=bound)
        layers.append({"kernel": kernel, "scale": jnp.ones(outputs), "shift": jnp.zeros(outputs)})
        statistics.append({"mean": jnp.zeros(outputs), "var": jnp.ones(outputs)})
    head = linear_params(keys[0], (sizes.CHANNELS[-1], sizes.CLASSES))[0]
    return {"layers": layers, "head": head}, statistics


def convolutional_loss(params: Tree, state: Tree, key: jax.Array, x: jax.Array, y: jax.Array, hparams: Tree) -> Any:
    """Convolution, batch norm, ReLU and pooling for each width, then a linear layer on the mean of the last."""
    statistics = []
    for index, (layer, running) in enumerate(zip(params["layers"], state, strict=True)):
        x = jax.lax.conv_general_dilated(x, layer["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        mean, var, n = x.mean((0, 1, 2)), x.var((0, 1, 2)), x.size // x.shape[-1]
        new = {"mean": mean, "var": var * n / (n - 1)}
        statistics.append(jax.tree.map(lambda old, now: 0.9 * old + 0.1 * jax.lax.stop_gradient(now), running, new))
        x = jax.nn.relu((x - mean) * jax.lax.rsqrt(var + 1e-5) * layer["scale"] + layer["shift"])
        if index < len(params["layers"]) - 1:
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    logits = x.mean((1, 2)) @ params["head"]["weight"] + params["head"]["bias"]
    return cross_entropy(logits, y), statistics


def ensemble() -> dict[str, Run]:
    """A step of several convolutional networks: together, or one jitted step after the other."""
    channels, *image = sizes.IMAGE
    batch = classification((sizes.NETWORKS_BATCH, *image, channels), sizes.CLASSES)
    step = training_step(convolutional_loss)
    hparams = {name: jnp.full(sizes.NETWORKS, value) for name, value in sizes.SETTINGS.items()}
    first = start_members(convolutional, sizes.NETWORKS)
    together = {
        f"JAX {how}": advance(jax.jit(over_members(step, how)), first, *batch, hparams) for how in ("vmap", "map")
    }
    program = jax.jit(lambda carry, x, y: step(carry, x, y, sizes.SETTINGS))
    indices = range(sizes.NETWORKS)
    one_by_one = [advance(program, jax.tree.map(operator.itemgetter(index), first), *batch) for index in indices]
    return {**together, "JAX jit": lambda: [run() for run in one_by_one]}


def sam_step() -> dict[str, Run]:
    """Two gradients a step."""
    first = start(linear_params(jax.random.key(0), sizes.MLP))
    return steps(mlp_loss, first, classification((sizes.MLP_BATCH, sizes.MLP[0]), sizes.MLP[-1]), radius=sizes.RADIUS)


def toy_step() -> dict[str, Run]:
    """A step each, and, under a name of its own, many as one program."""
    return {**mlp_step(sizes.TOY, sizes.TOY_BATCH), "JAX scan": mlp_scan(sizes.TOY, sizes.TOY_BATCH)}


UNITS = {"JAX scan": sizes.RESTART}

WORKLOADS: dict[str, Callable[[], dict[str, Run]]] = {
    "dropout": dropout_draw,
    "toy-step": toy_step,
    "toy-sweep": partial(mlp_sweep, sizes.TOY, sizes.TOY_BATCH, sizes.TOY_MEMBERS),
    "mlp-step": partial(mlp_step, sizes.MLP, sizes.MLP_BATCH),
    "mlp-sweep": partial(mlp_sweep, sizes.MLP, sizes.MLP_BATCH, sizes.MLP_MEMBERS),
    "monte-carlo": partial(monte_carlo, sizes.MLP, 100, sizes.SAMPLES),
    "monte-carlo-1000": partial(monte_carlo, sizes.MLP, 1000, sizes.SAMPLES),
    "ensemble": ensemble,
    "sam-step": sam_step,
    "spectral-step": discriminator_step,
    "toy-step-kept": toy_step,
    "mlp-step-kept": partial(mlp_step, sizes.MLP, sizes.MLP_BATCH),
}

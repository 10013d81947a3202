"""Other people's networks put to use: fine-tuned by groups around where they began, and as a calibrated ensemble."""

from typing import Any

import scipy.optimize
import timm
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import funcreg as fr
from funcreg import optim, train, tree

BACKBONE = ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4")


def digits(count: int, dtype: torch.dtype) -> train.Batch:
    found: Any = load_digits()
    images = torch.tensor(found.images[:count] / 16, dtype=dtype).unsqueeze(1)
    return train.Batch(nn.functional.interpolate(images, scale_factor=2.0), torch.tensor(found.target[:count]))


def test_fine_tuning_is_what_torch_does_with_groups_a_frozen_batch_norm_and_an_anchor() -> None:
    """A ResNet whose backbone learns slowly, without decay, near its start; its head is new, fast and decays."""
    module = timm.create_model("test_resnet", num_classes=10, in_chans=1).double()
    generator = torch.Generator().manual_seed(0)
    for name, buffer in module.named_buffers():  # as a pretrained one has, so that evaluating is another thing
        if name.endswith("running_var"):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator, dtype=torch.float64))
    data = digits(16, torch.float64)
    model, (params, state) = fr.from_module(module), fr.variables(module)
    weights, begin = fr.decay_mask(model), dict(params)

    def in_head(name: str) -> bool:
        return name.startswith("fc.")

    def loss_fn(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        logits, state = model.apply(params, state, batch.x, key=key, train=True, frozen=BACKBONE)
        return fr.losses.cross_entropy(logits, batch.y), (state, {})

    def near_start(params: Any, hparams: Any) -> Tensor:
        near = lambda name, leaf: weights(name, leaf) and not in_head(name)  # noqa: E731
        return fr.penalties.l2_distance(params, begin, hparams["anchor"], mask=near)

    def optimizer(hparams: Any) -> fr.transforms.Transform:
        return fr.transforms.partition(
            {
                "backbone": optim.adamw(hparams["slow"], weight_decay=0.0),
                "head": optim.adamw(0.02, weight_decay=0.3, mask=weights),
            },
            lambda name, leaf: "head" if in_head(name) else "backbone",
        )

    hparams = {"anchor": torch.tensor([0.1, 0.0]).double(), "slow": torch.tensor([1e-3, 1e-4]).double()}
    both = tree.stack([params] * 2), tree.stack([state] * 2)
    step = train.make_step(loss_fn, optimizer, penalties={"anchor": near_start})
    first = train.init(*both, optimizer, key=fr.random.key(0), hparams=hparams, members=2)
    result = train.fit(step, first, data, key=fr.random.key(1), epochs=4, hparams=hparams, members=2, jit=False)

    for member in range(2):
        anchor, slow = float(hparams["anchor"][member]), float(hparams["slow"][member])
        theirs: Any = fr.to_module(module, params, state)
        theirs.fc.train()
        groups = [
            {"params": [leaf for name, leaf in theirs.named_parameters() if not in_head(name)], "lr": slow},
            {"params": [theirs.fc.weight], "weight_decay": 0.3},
            {"params": [theirs.fc.bias]},
        ]
        adamw = torch.optim.AdamW(groups, lr=0.02, weight_decay=0.0)
        for _ in range(4):
            adamw.zero_grad()
            loss = nn.functional.cross_entropy(theirs(data.x), data.y)
            for name, leaf in theirs.named_parameters():
                if leaf.ndim > 1 and not in_head(name):
                    loss = loss + anchor * ((leaf - begin[name]) ** 2).sum()
            loss.backward()
            adamw.step()
        trained = tree.index(result.train_state, member)
        for name, leaf in theirs.named_parameters():
            moved = float((leaf.detach() - begin[name]).norm())
            assert moved > 0
            torch.testing.assert_close(trained.params[name], leaf.detach(), rtol=0, atol=1e-7 * moved)
        for name, buffer in theirs.named_buffers():
            assert torch.equal(trained.state[name], buffer), "batch norm was frozen"
    trained = result.train_state.params
    apart = {name: leaf - begin[name] for name, leaf in trained.items() if not in_head(name)}
    near, far = (tree.norm(tree.index(apart, member)) for member in (1, 0))
    assert near < far, "the second backbone is ten times as slow"


def test_an_ensemble_of_a_timm_network_with_temperature_scaling() -> None:
    """Trained under one vmap; it predicts as torch's modules do, and its temperature is the one scipy finds."""
    make = lambda: timm.create_model("test_efficientnet", num_classes=10, in_chans=1)  # noqa: E731
    model, data = fr.from_module(make), digits(300, torch.float32)
    rows = (slice(150), slice(150, 225), slice(225, 300))
    training, validation, test = (train.Batch(data.x[each], data.y[each]) for each in rows)

    def loss_fn(params: Any, state: Any, batch: Any, *, key: Tensor, hparams: Any) -> Any:
        logits, state = model.apply(params, state, batch.x, train=True)
        return fr.losses.cross_entropy(logits, batch.y), (state, {})

    optimizer = optim.adamw(3e-3, weight_decay=0.05, mask=fr.decay_mask(model))
    params, state = fr.model_members(model, fr.random.key(0), 3)
    first = train.init(params, state, optimizer, key=fr.random.key(1), members=3)
    step = train.make_step(loss_fn, optimizer)
    result = train.fit(step, first, training, key=fr.random.key(2), epochs=10, batch_size=30, members=3, jit=False)
    params, state = train.variables(result.best)

    ours = fr.uncertainty.ensemble(model, params, state, test.x)
    modules = [fr.to_module(make, *tree.index((params, state), member)) for member in range(3)]
    with torch.no_grad():
        each = torch.stack([torch.softmax(module(test.x), -1) for module in modules])
        held_out = torch.stack([torch.softmax(module(validation.x), -1) for module in modules]).mean(0).log().double()
    torch.testing.assert_close(ours.mean, each.mean(0), rtol=1e-4, atol=1e-5)
    accuracy = fr.losses.accuracy(ours.mean, test.y)
    assert float(accuracy) > 0.5, "of ten classes"
    assert float(ours.mutual_information.max()) > 0.01, "members disagree somewhere"

    temperature = fr.uncertainty.fit_temperature(held_out, validation.y)
    found: Any = scipy.optimize.minimize_scalar(
        lambda t: float(nn.functional.cross_entropy(held_out / t, validation.y)), bounds=(0.05, 20), method="bounded"
    )
    torch.testing.assert_close(float(temperature), float(found.x), rtol=1e-3, atol=0)
    scaled = torch.softmax(ours.mean.log().double() / temperature, -1)
    assert torch.equal(scaled.argmax(-1), ours.mean.argmax(-1)), "no prediction changes"
    nll = fr.uncertainty.negative_log_likelihood
    calibrated = torch.softmax(held_out / temperature, -1)
    assert float(nll(calibrated, validation.y)) < float(nll(held_out.exp(), validation.y))

"""Which parameters decay, beside the comparison with timm in `oracles/model.py`: layer by layer, and other people's."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import funcreg as fr
from funcreg import FuncregError, optim, penalties


def decayed(model: Any, module: nn.Module, **options: bool) -> set[str]:
    mask = fr.decay_mask(model, **options)
    return {name for name, leaf in module.named_parameters(remove_duplicate=False) if mask(name, leaf)}


class OwnKind(nn.Module):
    """Parameters that no layer of torch's owns."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Parameter(torch.ones(3, 4))
        self.experts = nn.Parameter(torch.ones(2, 3, 4))
        self.gain = nn.Parameter(torch.ones(4, 1, 1))
        self.cls_token = nn.Parameter(torch.ones(1, 1, 4))
        self.pos_embed = nn.Parameter(torch.ones(1, 7, 4))
        self.relative_position_bias_table = nn.Parameter(torch.ones(9, 2))
        self.log_sigma = nn.Parameter(torch.ones(3, 4))
        self.kept = nn.Parameter(torch.ones(3, 4))
        self.kept._no_weight_decay = True  # pyright: ignore
        self.listed = nn.ParameterList([torch.ones(3, 4), torch.ones(4)])
        self.biases = nn.ParameterDict({"a": torch.ones(3, 4)})


class RMSNorm2d(nn.Module):
    """A norm that is no subclass of torch's, with a scale of three axes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 4, 4))


class ScaledLinear(nn.Linear):
    """A subclass with a vector of its own."""

    def __init__(self) -> None:
        super().__init__(3, 4)
        self.scale = nn.Parameter(torch.ones(4, 1))


class Opinionated(nn.Module):
    """A model that says what does not decay: a parameter, a whole layer, a pattern."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.mlp = nn.Parameter(torch.ones(3, 4)), nn.Linear(2, 3)
        self.head, self.rope = nn.Linear(3, 4), nn.ModuleList([nn.Linear(2, 2)])

    def no_weight_decay(self) -> set[str]:
        return {"table", "mlp", "rope*"}


LAYERS: dict[str, tuple[Any, set[str]]] = {
    "linear": (lambda: nn.Linear(2, 3), {"weight"}),
    "one output": (lambda: nn.Linear(3, 1), {"weight"}),
    "bilinear": (lambda: nn.Bilinear(2, 3, 4), {"weight"}),
    "convolution": (lambda: nn.Conv1d(2, 3, 1), {"weight"}),
    "depthwise, 1x1": (lambda: nn.Conv2d(3, 3, 1, groups=3), {"weight"}),
    "transposed": (lambda: nn.ConvTranspose3d(2, 3, 2), {"weight"}),
    "lstm": (lambda: nn.LSTM(4, 4, proj_size=2), {"weight_ih_l0", "weight_hh_l0", "weight_hr_l0"}),
    "gru cell": (lambda: nn.GRUCell(3, 4), {"weight_ih", "weight_hh"}),
    "attention": (lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True), {"in_proj_weight", "out_proj.weight"}),
    "attention, other keys": (
        lambda: nn.MultiheadAttention(4, 2, kdim=3, vdim=5),
        {"q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"},
    ),
    "layer norm of two axes": (lambda: nn.LayerNorm([3, 4]), set()),
    "group norm": (lambda: nn.GroupNorm(2, 4), set()),
    "batch norm": (lambda: nn.BatchNorm2d(3), set()),
    "instance norm": (lambda: nn.InstanceNorm1d(3, affine=True), set()),
    "rms norm": (lambda: nn.RMSNorm([3, 4]), set()),
    "prelu": (lambda: nn.PReLU(4), set()),
    "embedding": (lambda: nn.Embedding(5, 3), set()),
    "weight norm": (
        lambda: parametrizations.weight_norm(nn.Linear(2, 3)),
        {"parametrizations.weight.original0", "parametrizations.weight.original1"},
    ),
    "spectral norm": (
        lambda: parametrizations.spectral_norm(nn.Conv2d(2, 3, 3)),
        {"parametrizations.weight.original"},
    ),
    "a norm's scale, weight-normed": (lambda: parametrizations.weight_norm(nn.LayerNorm([3, 4])), set()),
    "somebody's norm": (RMSNorm2d, set()),
    "somebody's linear": (ScaledLinear, {"weight"}),
    "somebody's own": (OwnKind, {"project", "experts", "listed.0"}),
    "opinionated": (Opinionated, {"head.weight"}),
    "within another": (lambda: nn.Sequential(Opinionated(), nn.Linear(2, 2)), {"0.head.weight", "1.weight"}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_weights_decay_and_nothing_else(name: str) -> None:
    make, expected = LAYERS[name]
    module = make()
    assert decayed(module, module) == expected
    assert decayed(fr.from_module(module), module) == expected, "of the model"
    assert decayed(make, module) == expected, "of the function that makes it"


def test_embeddings_decay_by_choice() -> None:
    module = nn.ModuleDict({"words": nn.Embedding(5, 3), "bag": nn.EmbeddingBag(5, 3)})
    module["relative_bias"] = nn.Embedding(5, 3)  # a table of biases, as T5's
    assert decayed(module, module) == set()
    assert decayed(module, module, embeddings=True) == {"words.weight", "bag.weight"}


def test_a_tied_weight_decays_under_every_name_where_one_layer_multiplies_by_it() -> None:
    module = nn.ModuleDict({"words": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    module["head"].weight = module["words"].weight
    assert decayed(module, module) == {"words.weight", "head.weight"}
    assert decayed(fr.from_module(module), module) == {"words.weight", "head.weight"}


def test_other_peoples_language_models() -> None:
    """Against the rule of transformers' Trainer, which lets embeddings decay, and vectors that no name betrays."""
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 30}
    mlp = {**small, "intermediate_size": 16}
    experts = transformers.MixtralConfig(**mlp, num_key_value_heads=2, num_local_experts=2)
    ids = {"bos_token_id": 0, "eos_token_id": 0}
    models = [
        transformers.BertModel(transformers.BertConfig(**mlp)),
        transformers.LlamaForCausalLM(transformers.LlamaConfig(**mlp, num_key_value_heads=2)),
        transformers.MixtralForCausalLM(experts),
        transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=30, **ids)),
        transformers.T5Model(transformers.T5Config(d_model=16, num_layers=1, num_heads=2, d_kv=8, d_ff=16)),
    ]
    for module in models:
        parameters = dict(module.named_parameters())
        theirs = parameters.keys() & set(transformers.Trainer.get_decay_parameter_names(None, module))
        mask = fr.decay_mask(module, embeddings=True)
        assert {name for name, leaf in parameters.items() if mask(name, leaf)} == theirs
        fewer = fr.decay_mask(module)
        left = {name for name in theirs if not fewer(name, parameters[name])}
        assert left == {name for name in theirs if "embed" in name or "shared" in name or "wpe" in name}


def test_the_mask_serves_penalties_and_optimizers_and_members_alike() -> None:
    model = fr.from_module(lambda: nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 1)))
    mask = fr.decay_mask(model)
    weights = {"0.weight", "3.weight"}
    params, _ = model.init(fr.random.key(0))
    expected = sum((params[name] ** 2).sum() for name in weights)
    torch.testing.assert_close(penalties.l2(params, 1.0, mask=mask), expected)

    stacked, _ = fr.model_members(model, fr.random.key(0), 3)
    zeros = fr.tree.zeros_like(stacked)
    for optimizer in (optim.adamw(0.1, weight_decay=0.5, mask=mask), optim.lion(0.1, weight_decay=0.5, mask=mask)):

        def update(grads: Any, params: Any, optimizer: Any = optimizer) -> Any:
            return optimizer.update(grads, optimizer.init(params), params)[0]

        for updates in (torch.func.vmap(update)(zeros, stacked), update(zeros, stacked)):
            moved = {name for name, leaf in updates.items() if not torch.equal(leaf, torch.zeros_like(leaf))}
            assert moved == weights
    state = optim.muon(0.1, matrices=mask).init(params)
    assert set(state["matrices"][0].buffer) == weights


def test_a_leaf_that_is_not_the_models_is_refused() -> None:
    mask = fr.decay_mask(nn.Linear(2, 2))
    params: dict[str, Tensor] = {"head.weight": torch.ones(2, 2)}
    with pytest.raises(FuncregError, match=r"mask: got the leaf 'head.weight'; .*weight, bias.*removeprefix"):
        penalties.l2(params, 0.1, mask=mask)

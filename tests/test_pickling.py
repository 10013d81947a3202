"""Models are pickled as what they are made of: copied, saved, sent to another process."""

import copy
import io
import multiprocessing
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import funcreg as fr

KEY = fr.random.key(0)
X = fr.random.normal(KEY, (4, 3))


class Net(nn.Module):
    """Noise, statistics, and a tie."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.norm, self.drop = nn.BatchNorm1d(3), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.norm(self.second(self.first(x))))


class Alias(nn.Module):
    """Another name of a layer's parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.__dict__["weight"] = self.layer.weight

    def forward(self, x: Tensor) -> Tensor:
        weight: Any = self.weight
        return x @ weight


def frozen() -> Net:
    net = Net()
    net.first.requires_grad_(False)
    return net


def normed() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3)), nn.Dropout(0.5))


def pickled(model: Any) -> Any:
    return pickle.loads(pickle.dumps(model))


def saved(model: Any) -> Any:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def step(model: fr.Model, params: Any, state: Any) -> Any:
    return model.apply(params, state, X, key=fr.random.key(1), train=True)


@pytest.mark.parametrize("copied", [pickled, saved, copy.deepcopy, lambda model: pickled(pickled(model))])
@pytest.mark.parametrize("source", [Net, Net(), frozen, frozen(), Alias, normed, nn.Linear(3, 3)])
def test_a_copy_of_a_model_is_as_the_model(source: Any, copied: Any) -> None:
    model = fr.from_module(source)
    params, state = fr.variables(source if isinstance(source, nn.Module) else source())
    expected = step(model, params, state)
    twin = copied(model)
    fr.testing.assert_trees_equal(step(twin, params, state), expected)
    if isinstance(source, nn.Module):
        with pytest.raises(fr.FuncregError, match=r"model\.init: got a model made from an instance"):
            twin.init(KEY)
    else:
        fr.testing.assert_trees_equal(twin.init(KEY), model.init(KEY))


def test_a_model_keeps_how_its_recurrent_layers_run() -> None:
    model = pickled(fr.from_module(nn.LSTM(3, 2), rnn="unrolled"))
    params, state = fr.variables(nn.LSTM(3, 2))
    outputs = torch.func.vmap(lambda x: model.apply(params, state, x)[0][0])(X.reshape(2, 2, 3))
    assert outputs.shape == (2, 2, 2)


def test_a_parameter_of_two_names_is_refused() -> None:
    with pytest.raises(fr.FuncregError, match="model: got one of a module in which a layer keeps another's parameter"):
        pickle.dumps(fr.from_module(Alias()))


def _in_a_process(model: fr.Model, answers: Any) -> None:
    answers.put(step(model, *model.init(KEY))[0].tolist())


@pytest.mark.slow
def test_a_model_goes_to_a_process_of_its_own() -> None:
    model, spawn = fr.from_module(Net), multiprocessing.get_context("spawn")
    answers = spawn.Queue()
    process = spawn.Process(target=_in_a_process, args=(model, answers))
    process.start()
    assert answers.get(timeout=120) == step(model, *model.init(KEY))[0].tolist()
    process.join()

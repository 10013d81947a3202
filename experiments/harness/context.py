"""What an experiment is given besides its settings: key, device, data, progress bars, logs."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

import funcreg as fr

from ..data import DataRoot
from ..errors import LabError
from ..report.result import plain
from .tensorboard import Logs
from .unfinished import Unfinished

T = TypeVar("T")


@dataclass(frozen=True)
class Context:
    """The circumstances of a run. `bars` shows progress on stderr; `logs` keep what every fit measures;
    `unfinished` keeps the pieces of a long one; `members_up_to`: how many members may be taken to decide its claims,
    and `at_once`: all of them are, whatever fewer would say.
    """

    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    data: DataRoot = field(default_factory=DataRoot)
    bars: bool = False
    logs: Logs | None = None
    unfinished: Unfinished | None = None
    members_up_to: int | None = None
    at_once: bool = False

    def keys(self, num: int) -> list[Tensor]:
        """`num` keys from the seed, on the device: all that an experiment draws comes from them."""
        return list(fr.random.split(fr.random.key(self.seed, device=self.device), num))

    def track(self, steps: Iterable[T], what: str) -> Iterator[T]:
        """Go through steps under a progress bar of its own."""
        if not self.bars:
            yield from steps
            return
        from tqdm import tqdm

        # Below the bar of the experiments, and only on a terminal: a log keeps one line a step.
        yield from tqdm(steps, desc=f"  {what}", position=1, leave=False, disable=None, dynamic_ncols=True)

    def piece(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` returns, as JSON's types: kept under a name, so that a run which is killed goes on after it."""
        return plain(make()) if self.unfinished is None else self.unfinished.piece(name, make)

    def fit(
        self,
        *arguments: Any,
        progress: bool | None = None,
        on_epoch: Callable[[fr.train.Epoch], object] | None = None,
        **options: Any,
    ) -> fr.train.FitResult:
        """`fr.train.fit` with a bar and logs where they are wanted, and where Ctrl-C ends the experiment too."""
        options["progress"] = progress if self.bars else False
        if self.logs is None:
            result = fr.train.fit(*arguments, on_epoch=on_epoch, **options)
        else:
            with self.logs.fit() as log:
                result = fr.train.fit(*arguments, on_epoch=_each(on_epoch, log), **options)
        if result.interrupted:
            raise KeyboardInterrupt
        return result


def _each(*functions: Callable[[fr.train.Epoch], object] | None) -> Callable[[fr.train.Epoch], None]:
    def call(epoch: fr.train.Epoch) -> None:
        for function in functions:
            if function is not None:
                function(epoch)

    return call


def device(name: str) -> torch.device:
    """The device of a name, tried out.

    Raises:
        LabError: when there is no such device on this machine.
    """
    try:
        found = torch.device(name)
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        if name.startswith("cuda") and not torch.cuda.is_available():
            reason = "this PyTorch finds no CUDA GPU"
        raise LabError(f"--device {name}: {reason}. Use --device cpu.") from None
    return found

"""Where a module keeps its tensors: a call lends it others, and takes back what it has assigned."""

from collections.abc import Callable, Collection, Iterable, Set
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from .attributes import Attributes, held_again, kept

Slot = tuple[dict[str, Any], str, Any]


class Slots:
    """Where a module keeps its tensors.

    places: by every name of a tensor, a layer's dictionary, the key there, and what lies there between calls.
    caches: the layer of each buffer that is no part of the state dict. attributes: what layers hold beside tensors;
    moved: what of that the last call has changed, (layer, attribute) each.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.places: dict[str, Slot] = {}  # of dict itself: a subclass takes thrice as long to look up
        self.callers: dict[str, nn.Module] = {}
        self.caches: dict[str, str] = {}
        self.moved: list[tuple[str, str]] = []

    def find(self, with_code: Set[str]) -> None:
        """Add the slots of all parameters and buffers; with_code: the layers with code of their own."""
        self.layers = dict(self.module.named_modules())
        self.attributes = Attributes(self.layers, with_code)
        for prefix, layer in self.module.named_modules(remove_duplicate=False):
            for own in (layer._parameters, layer._buffers):
                for slot, tensor in own.items():
                    self.places[f"{prefix}.{slot}" if prefix else slot] = (own, slot, tensor)
            for slot in layer._non_persistent_buffers_set:
                if layer._buffers.get(slot) is not None:
                    self.caches[f"{prefix}.{slot}" if prefix else slot] = prefix

    def add(self, prefix: str, layer: nn.Module, attribute: str) -> None:
        """Add an attribute of a layer that a call may lend; None between calls."""
        (own := vars(layer)).setdefault(attribute, None)
        self.places[f"{prefix}.{attribute}" if prefix else attribute] = (own, attribute, None)

    def call(
        self,
        tensors: dict[str, Tensor],
        reads: Collection[str],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Call what runs the module on these tensors; those in `reads` are what they are after it then.

        A cache is what it was where its layer has set attributes too: those are put back, and tell what is in it.
        """
        places, attributes = self.places, self.attributes
        before = attributes.now() if attributes.things else None
        for name, tensor in tensors.items():
            own, slot, _ = places[name]
            own[slot] = tensor
        try:
            return function(*args, **kwargs)
        finally:
            # All are read before any is put back: a layer under two names has one slot for both.
            after = {name: places[name][0][places[name][1]] for name in reads} if reads else {}
            for name in tensors:
                own, slot, between = places[name]
                own[slot] = between
            if before is not None:
                self.moved = attributes.put_back(before)
                for name in self.moved_caches():
                    after.pop(name, None)
            tensors.update(after)

    def moved_caches(self) -> list[str]:
        """The buffers, no part of the state dict, of layers whose attributes the last call has changed."""
        layers = {layer for layer, _ in self.moved}
        return [name for name, layer in self.caches.items() if layer in layers] if layers else []

    def call_traced(
        self,
        tensors: dict[str, Tensor],
        moves: Iterable[tuple[str, str]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        method: str | None,
    ) -> Any:
        """The same in a program that is being traced: by `torch.func.functional_call`, which the compiler knows.

        moves: the attributes that the call is known to change.
        """
        before = [kept(self.layers[layer], attribute) for layer, attribute in moves]
        output = self._called(tensors, args, kwargs, method)
        for each in before:
            held_again(*each)
        return output

    def _called(
        self, tensors: dict[str, Tensor], args: tuple[Any, ...], kwargs: dict[str, Any], method: str | None
    ) -> Any:
        if method is None:
            return functional_call(self.module, tensors, args, kwargs, tie_weights=False)
        inner = {f"module.{name}": tensor for name, tensor in tensors.items()}
        output = functional_call(self.callers[method], inner, args, kwargs, tie_weights=False)
        for name in tensors:
            tensors[name] = inner[f"module.{name}"]
        return output

    def prepare_method(self, method: str) -> None:
        """Make what calls another method, before a program is traced that does."""
        if method not in self.callers:
            self.callers[method] = _Method(self.module, method)


class _Method(nn.Module):
    """Calls a method of a module by its name."""

    def __init__(self, module: nn.Module, method: str) -> None:
        super().__init__()
        self.module, self.method = module, method

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.module, self.method)(*args, **kwargs)

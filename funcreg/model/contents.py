"""What containers of Python's hold, read as Python keeps it: a class of somebody's may refuse to be counted."""

from typing import Any

_SEQUENCES: tuple[Any, ...] = (list, tuple, set, frozenset)


def contents(value: Any) -> list[Any]:
    """What a list, tuple or set holds, and the values of a dict; nothing for anything else.

    >>> class Uncountable(tuple):
    ...     def __len__(self):
    ...         raise NotImplementedError
    >>> contents(Uncountable([1, 2])), contents({"a": 3}), contents("ab")
    ([1, 2], [3], [])
    """
    if isinstance(value, dict):
        return list(dict.values(value))
    for kind in _SEQUENCES:
        if isinstance(value, kind):
            return list(kind.__iter__(value))
    return []

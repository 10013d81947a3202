"""How fast funcreg is: `python -m experiments bench`."""

from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Run the benchmarks that a command line asks for; returns the exit status."""
    from .command import main as command  # JAX's process imports this package, and no torch

    return command(argv)

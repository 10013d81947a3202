"""Mean, standard deviation and 95% confidence interval over members: what n seeds say together."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from scipy import special
from torch import Tensor

from .decisions import CONFIRMED, REFUTED, UNDECIDED, Verdict
from .looks import tail


class Estimate(NamedTuple):
    """A mean over n members, and Student's 95% interval of it."""

    mean: float
    sd: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if self.n == 1:
            return f"{self.mean:.3g} (n = 1)"
        return f"{self.spread} (n = {self.n}; 95% {number(self.low)} to {number(self.high)})"

    @property
    def spread(self) -> str:
        """Mean and standard deviation alone, for a table whose columns say n."""
        return f"{number(self.mean)} ± {number(self.sd)}"

    @property
    def cell(self) -> str:
        """The same with two digits of the standard deviation, for a table of many columns."""
        return f"{number(self.mean)} ± {number(self.sd, 2)}"

    def fixed(self, digits: int) -> str:
        """The same with so many digits behind the point."""
        return f"{self.mean:.{digits}f} ± {self.sd:.{digits}f}"

    def above(self, bound: float = 0.0, *, smallest: float | None = None) -> Verdict:
        """Whether the mean is above a bound; `smallest`: by how much it would have to be, to be of interest.

        >>> estimate([1.0, 2.0, 3.0]).above(0.0)
        Verdict(outcome='undecided', allows='-0.484 to 4.48', open=True)
        """
        return self._verdict(self.low > bound, self.high <= bound, smallest, self.high - bound)

    def below(self, bound: float = 0.0, *, smallest: float | None = None) -> Verdict:
        """Whether the mean is below a bound."""
        return self._verdict(self.high < bound, self.low >= bound, smallest, bound - self.low)

    def within(self, low: float, high: float) -> Verdict:
        """Whether the mean lies between two bounds."""
        return self._verdict(low < self.low and self.high < high, self.high <= low or high <= self.low, None, 0.0)

    def _verdict(self, held: bool, failed: bool, smallest: float | None, at_most: float) -> Verdict:
        """`at_most`: the largest effect on the claim's side that the interval allows."""
        if self.n == 1:
            return Verdict(UNDECIDED, "anything: a single member has no interval", True)
        if held or failed:
            return Verdict(CONFIRMED if held else REFUTED)
        allows, excluded = f"{number(self.low)} to {number(self.high)}", smallest is not None and at_most < smallest
        if smallest is not None:
            allows += f": the smallest effect of interest, {number(smallest)}, is {'not ' * (not excluded)}excluded"
        return Verdict(UNDECIDED, allows, not excluded)

    @property
    def signed(self) -> str:
        """A difference in points, to a hundredth, with its sign."""
        return f"{self.mean:+.2f} ± {self.sd:.2f} (n = {self.n}; 95% {self.low:+.2f} to {self.high:+.2f})"


def estimate(values: Iterable[float], *, comparisons: int = 1) -> Estimate:
    """Estimate the mean of independent members, one value each; Bonferroni's wider interval for several comparisons.

    >>> estimate([1.0, 2.0, 3.0])
    Estimate(mean=2.0, sd=1.0, low=-0.48..., high=4.48..., n=3)
    """
    each = [float(value) for value in values]
    n, mean = len(each), math.fsum(each) / len(each)
    if n == 1:
        return Estimate(mean, 0.0, mean, mean, 1)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in each) / (n - 1))
    mean = mean if abs(mean) > 1e-12 * sd else 0.0  # what is left of differences that cancel
    half = -float(special.stdtrit(n - 1, tail(comparisons))) * sd / math.sqrt(n)  # of Student's t
    return Estimate(mean, sd, mean - half, mean + half, n)


def paired(first: Tensor, second: Tensor) -> Estimate:
    """Estimate the mean difference, member by member, of two series (n,).

    >>> paired(torch.tensor([2.0, 4.0]), torch.tensor([1.0, 1.0])).mean
    2.0
    """
    return estimate((first.double() - second.double()).tolist())


class Curve(NamedTuple):
    """A series over n members: mean and standard deviation at each point."""

    mean: list[float]
    sd: list[float]
    n: int


def curve(members: Tensor) -> Curve:
    """What is kept of the series of many members, (n, points), where their ends are kept one by one.

    Four digits, enough to draw. A value that is not finite makes its point NaN.

    >>> curve(torch.tensor([[1.0, 2.0], [3.0, 2.0]]))
    Curve(mean=[2.0, 2.0], sd=[1.414, 0.0], n=2)
    """
    values = members.detach().double()
    sd = values.std(dim=0) if len(values) > 1 else torch.zeros_like(values[0])
    return Curve(*([float(f"{x:.4g}") for x in each.tolist()] for each in (values.mean(dim=0), sd)), n=len(values))


def number(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, without trailing noise.

    >>> number(0.123456), number(97.4217), number(1.2e-7), number(0.0)
    ('0.123', '97.4', '1.2e-07', '0')
    """
    return f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}"

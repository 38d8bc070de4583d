"""One known answer: what was asked, what should come out, what did, and a plot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.axes import Axes

__all__ = ["Case"]


@dataclass(frozen=True)
class Case:
    """A comparison of a run-time kernel with a known answer.

    Attributes
    ----------
    title : str
        What is tested, for the table: "pit depth under diffusion control".
    statement : str
        Equation or property, its source, grid and settings; a sentence or two of Markdown.
    quantity : str
        What is compared, with its unit.
    expected, got : float
        Known answer, and that of the kernel.
    tolerance : float
        Largest error accepted: relative to ``expected``, or absolute where ``absolute``.
    absolute : bool
        How ``tolerance`` is meant.
    plot : callable, optional
        Draws on matplotlib axes what there is to see, labels and legend included.
    """

    title: str
    statement: str
    quantity: str
    expected: float
    got: float
    tolerance: float
    absolute: bool = False
    plot: Callable[[Axes], None] | None = None

    @property
    def error(self) -> float:
        """Of the kernel's answer, in the sense of ``tolerance``."""
        gap = abs(self.got - self.expected)
        return gap if self.absolute else gap / abs(self.expected)

    @property
    def holds(self) -> bool:
        """Whether the error is within the tolerance."""
        return self.error <= self.tolerance

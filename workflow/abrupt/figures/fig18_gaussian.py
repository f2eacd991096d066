"""Matrices with Gaussian factors (paper, Figure 18): the curves of Figure 2."""

from abrupt.figures.fig02_loss import draw, tidy

__all__ = ["draw", "tidy"]

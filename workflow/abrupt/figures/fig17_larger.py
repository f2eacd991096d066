"""Larger matrices, one model a size (paper, Figure 17)."""

from abrupt.figures import sweep

tidy = sweep.make_tidy("size")
draw = sweep.make_draw("larger matrices, one model a size", "{0} × {0}")

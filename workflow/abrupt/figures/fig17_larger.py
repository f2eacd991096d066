"""Larger matrices, one model a size (paper, Figure 17)."""

from abrupt.figures import sweep

tidy = sweep.tidy_of("size")
draw = sweep.draw_of("larger matrices, one model a size", "{0} × {0}")
observe = sweep.observe_of("{0} × {0}")

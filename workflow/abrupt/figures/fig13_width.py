"""Models of several widths (paper, Figure 13)."""

from abrupt.figures import sweep

tidy = sweep.make_tidy("width")
draw = sweep.make_draw("width of the model", "width {}")

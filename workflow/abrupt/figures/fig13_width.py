"""Models of several widths (paper, Figure 13)."""

from abrupt.figures import sweep

tidy = sweep.tidy_of("width")
draw = sweep.draw_of("width of the model", "width {}")
observe = sweep.observe_of("width {}")

"""Models of several depths (paper, Figure 14)."""

from abrupt.figures import sweep

tidy = sweep.tidy_of("depth")
draw = sweep.draw_of("number of layers", "{} layer{s}")
observe = sweep.observe_of("{} layer{s}")

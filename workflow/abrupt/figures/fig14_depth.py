"""Models of several depths (paper, Figure 14)."""

from abrupt.figures import sweep

tidy = sweep.make_tidy("depth")
draw = sweep.make_draw("number of layers", "{} layer{s}")

"""Models with several numbers of heads (paper, Figure 15)."""

from abrupt.figures import sweep

tidy = sweep.make_tidy("heads")
draw = sweep.make_draw("number of attention heads a layer", "{} head{s}")

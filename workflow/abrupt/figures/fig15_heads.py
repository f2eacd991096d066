"""Models with several numbers of heads (paper, Figure 15)."""

from abrupt.figures import sweep

tidy = sweep.tidy_of("heads")
draw = sweep.draw_of("number of attention heads a layer", "{} head{s}")
observe = sweep.observe_of("{} head{s}")

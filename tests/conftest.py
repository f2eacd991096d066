"""Settings for all tests."""

import torch

# The models of the unit tests are tiny: a second thread only gets in the way of the first.
torch.set_num_threads(1)

"""Settings of the tests of agents."""

import torch

# As in training: on small graphs, threads wait for each other, and for other tests' threads.
torch.set_num_threads(1)

"""What all tests share."""

import torch

# The tensors are tiny: threads that wait for each other on shared cores cost several times the work.
torch.set_num_threads(1)

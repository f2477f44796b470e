"""One CPU thread for torch: two test processes share two cores, and sums repeat bit for bit."""

import torch

torch.set_num_threads(1)

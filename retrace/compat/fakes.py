"""Private interfaces of PyTorch with which tests run a network on a GPU that is not there, and see its operations."""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["FakeTensorMode", "TorchDispatchMode"]

# Fake tensors register a GPU for good, and PyTorch's first backward pass starts a thread for every registered device:
# a process that was forked later could not compute gradients any more. This pass is the first, before any device is.
torch.ones(1, requires_grad=True).sum().backward()

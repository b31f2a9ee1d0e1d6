"""Private interfaces of PyTorch with which tests run a network on a GPU that is not there, and see its operations."""

from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["FakeTensorMode", "TorchDispatchMode"]

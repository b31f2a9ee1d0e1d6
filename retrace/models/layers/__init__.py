"""Layers of networks: fast kernels of our own, and which of PyTorch's layers are batch normalization."""

from torch import nn

# timm's and segmentation-models-pytorch's are subclasses of these
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

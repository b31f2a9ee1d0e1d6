"""The classic five-level U-Net (Ronneberger et al. 2015), padded, with BatchNorm: 31.0 M parameters for 19 classes."""

import torch
from torch import Tensor, nn

LEVELS = 5  # 64-128-256-512-1024 at the default width


def _double_conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),  # BatchNorm has the bias
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class ClassicUNet(nn.Module):
    """Contracting path, expanding path with transposed convolutions, a skip connection per level.

    `width` is the number of channels of the first level (64 in the paper); each level below has twice as many.
    """

    stride = 2 ** (LEVELS - 1)

    def __init__(self, classes: int, width: int = 64) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        self.down = nn.ModuleList(_double_conv(i, o) for i, o in zip([3, *widths[:-1]], widths, strict=True))
        self.pool = nn.MaxPool2d(2)
        shallower = widths[-2::-1]  # 512, 256, 128, 64
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in shallower)
        self.merge = nn.ModuleList(_double_conv(2 * w, w) for w in shallower)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] -> logits [N, classes, H, W]; H and W multiples of 16."""
        skips = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, skips[-2::-1], strict=True):
            x = merge(torch.cat([skip, up(x)], dim=1))
        return self.head(x)

"""Masked autoencoders on timm encoders: hide most patches of an image, learn to paint them.

`FCMAE` for ConvNeXt-V2 (Woo et al. 2023, "ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders"),
`ViTMAE` for vision transformers (He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners"). Both are called
with normalised images [N, 3, H, W] and a boolean mask [N, L] (True = hidden; L patches, row by row) and return a
prediction [N, L, patch * patch * 3] whose channels are ordered (row, column, color).
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.models.convnext import ConvNeXt, ConvNeXtBlock
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from retrace.compat.timm import GlobalResponseNorm, with_positions
from retrace.config.pretrain import Mae
from retrace.errors import UserError
from retrace.models.encoders import bare_convnext, bare_vit, check_timm, fix_positions, sincos_positions
from retrace.models.layers import depthwise, grn
from retrace.models.layers.constants import Constants

HEAD_WIDTH = 32  # channels of one attention head of the ViT decoder, as in the reference (512 / 16)
KEY = "pretrain.mae"


def patchify(images: Tensor, patch: int) -> Tensor:
    """[N, 3, H, W] -> [N, L, patch * patch * 3], patches row by row, each as (row, column, color)."""
    n, c, h, w = images.shape
    grid = images.reshape(n, c, h // patch, patch, w // patch, patch)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(n, -1, patch * patch * c)  # [N, h, w, p, q, c]


def unpatchify(patches: Tensor, patch: int, size: tuple[int, int]) -> Tensor:
    """The inverse of `patchify` for images of `size` (height, width)."""
    n, (h, w) = len(patches), size
    grid = patches.reshape(n, h // patch, w // patch, patch, patch, -1)
    return grid.permute(0, 5, 1, 3, 2, 4).reshape(n, -1, h, w)


def normalize_patches(patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each patch minus its mean, over the root of its (unbiased) variance + 1e-6; also returns mean and that root."""
    mean = patches.mean(dim=-1, keepdim=True)
    spread = (patches.var(dim=-1, keepdim=True) + 1e-6).sqrt()
    return (patches - mean) / spread, mean, spread


def reconstruction_loss(prediction: Tensor, images: Tensor, masked: Tensor, patch: int) -> Tensor:
    """Mean squared error against the per-patch normalised pixels, averaged over the hidden patches only (He et al., 3).

    prediction [N, L, patch * patch * 3], images [N, 3, H, W], masked bool [N, L] -> scalar, float32.
    """
    target, _, _ = normalize_patches(patchify(images.float(), patch))
    error = (prediction.float() - target).square().mean(dim=-1)  # [N, L]
    hidden = masked.to(error.dtype)
    return (error * hidden).sum() / hidden.sum()


def hidden_patches(patches: int, ratio: float) -> int:
    """How many of so many patches a mask of this ratio hides: round(ratio * patches), at least one of each kind."""
    return min(patches - 1, max(1, round(ratio * patches)))


def random_mask(patches: int, ratio: float, seed: int) -> Tensor:
    """bool [patches] with `hidden_patches` True; the same on every machine."""
    mask = np.zeros(patches, dtype=bool)
    mask[np.random.default_rng(seed).permutation(patches)[: hidden_patches(patches, ratio)]] = True
    return torch.from_numpy(mask)


class FCMAE(nn.Module):
    """Fully convolutional masked autoencoder: a ConvNeXt-V2 that sees only the visible patches, a small dense decoder.

    The sparse convolutions of the paper are emulated on dense tensors: hidden positions are zeroed after each operation
    that could fill them, and global response normalisation sums over visible positions only, so nothing of a hidden
    patch reaches a visible one. (As in fine-tuning it normalises per image, not over the batch.)
    """

    patch = 32  # stride of the last stage: the mask is whole at every stage

    def __init__(self, encoder: Any, decoder_dim: int, decoder_depth: int) -> None:
        super().__init__()
        self.encoder: Any = encoder  # a timm ConvNeXt
        self.project = nn.Conv2d(encoder.num_features, decoder_dim, 1)
        self.mask_token = nn.Parameter(torch.zeros(1, decoder_dim, 1, 1))
        self.decoder = nn.Sequential(
            *(ConvNeXtBlock(decoder_dim, use_grn=True, ls_init_value=None) for _ in range(decoder_depth))
        )
        self.predict = nn.Conv2d(decoder_dim, self.patch**2 * 3, 1)
        _initialize(self.project, self.decoder, self.predict)
        nn.init.normal_(self.mask_token, std=0.02)

    def features(self, images: Tensor, masked: Tensor) -> list[Tensor]:
        """Maps of the four stages [N, C, H / s, W / s], s = 4, 8, 16, 32, zero where hidden."""
        n, _, h, w = images.shape
        visible = (~masked).to(images.dtype).reshape(n, 1, h // self.patch, w // self.patch)
        maps = []
        x = self.encoder.stem(images)
        for stage in self.encoder.stages:
            x = stage.downsample(x)
            shown = F.interpolate(visible, size=x.shape[-2:], mode="nearest")
            x = x * shown
            for block in stage.blocks:
                x = masked_block(block, x, shown)
            maps.append(x)
        return maps

    def forward(self, images: Tensor, masked: Tensor) -> Tensor:
        """See the module's docstring; H and W multiples of 32."""
        x = self.project(self.encoder.norm_pre(self.features(images, masked)[-1]))  # [N, D, h, w]
        hidden = masked.reshape(len(x), 1, *x.shape[-2:])
        x = torch.where(hidden, self.mask_token.to(x.dtype), x)
        x = self.predict(self.decoder(x))  # [N, p * p * 3, h, w]
        return x.flatten(2).transpose(1, 2)


def masked_block(block: Any, x: Tensor, shown: Tensor) -> Tensor:
    """timm's `ConvNeXtBlock.forward` on visible positions. x [N, C, H, W] is zero where `shown` [N, 1, H, W] is."""
    y = block.conv_dw(x) * shown
    if not block.use_conv_mlp:
        y, where = y.permute(0, 2, 3, 1), shown.permute(0, 2, 3, 1)
    else:
        where = shown
    mlp = block.mlp
    y = mlp.drop1(mlp.act(mlp.fc1(block.norm(y)))) * where  # zero before the sums of the response normalisation
    y = mlp.drop2(mlp.fc2(mlp.grn(y)))
    if not block.use_conv_mlp:
        y = y.permute(0, 3, 1, 2)
    if block.gamma is not None:
        y = y * block.gamma.reshape(1, -1, 1, 1)
    return (block.drop_path(y) + block.shortcut(x)) * shown


class ViTMAE(nn.Module):
    """Asymmetric masked autoencoder: the ViT encodes visible patches only, a light transformer paints the hidden ones.

    Positions are fixed sines and cosines in both halves; the encoder's own `pos_embed` holds them (resampled when the
    image has another grid than the model's), so that fine-tuning starts from them.
    """

    def __init__(self, encoder: Any, decoder_dim: int, decoder_depth: int, mask_ratio: float) -> None:
        super().__init__()
        self.encoder: Any = encoder  # a timm VisionTransformer
        self.mask_ratio, self._constants = mask_ratio, Constants()
        self.patch = encoder.patch_embed.patch_size[0]
        fix_positions(encoder)
        self.project = nn.Linear(encoder.embed_dim, decoder_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_dim))
        self.decoder = nn.Sequential(
            *(Block(decoder_dim, decoder_dim // HEAD_WIDTH, qkv_bias=True) for _ in range(decoder_depth))
        )
        self.norm = nn.LayerNorm(decoder_dim)
        self.predict = nn.Linear(decoder_dim, self.patch**2 * 3)
        _initialize(self.project, self.decoder, self.predict)
        nn.init.normal_(self.mask_token, std=0.02)

    def encode(self, images: Tensor, visible: Tensor) -> Tensor:
        """Tokens [N, prefix + V, D] of the patches numbered `visible` (int64 [N, V]) after the last block and norm."""
        encoder = self.encoder
        tokens = with_positions(encoder, encoder.patch_embed(images))  # [N, prefix + L, D]
        prefix = encoder.num_prefix_tokens
        patches = _take(tokens[:, prefix:], visible)
        tokens = torch.cat([tokens[:, :prefix], patches], dim=1)
        return encoder.norm(encoder.blocks(encoder.norm_pre(tokens)))

    def forward(self, images: Tensor, masked: Tensor) -> Tensor:
        """See the module's docstring; masks are those of `random_mask`; H and W multiples of the patch."""
        order = masked.to(torch.uint8).argsort(dim=1, stable=True)  # visible patches first
        count = masked.shape[1]
        visible = order[:, : count - hidden_patches(count, self.mask_ratio)]  # counting them would wait for the device
        tokens = self.project(self.encode(images, visible))  # [N, prefix + V, D]
        prefix = self.encoder.num_prefix_tokens
        fill = self.mask_token.to(tokens.dtype).expand(len(tokens), masked.shape[1] - visible.shape[1], -1)
        patches = _take(torch.cat([tokens[:, prefix:], fill], dim=1), order.argsort(dim=1, stable=True))
        h, w = (side // self.patch for side in images.shape[-2:])
        size = (h, w, patches.shape[-1])
        positions = self._constants.get(size, patches.device, lambda: sincos_positions(*size))
        patches = patches + positions.to(patches.dtype)
        x = self.decoder(torch.cat([tokens[:, :prefix], patches], dim=1))
        return self.predict(self.norm(x[:, prefix:]))


def _take(tokens: Tensor, numbers: Tensor) -> Tensor:
    """tokens [N, L, D], numbers int64 [N, K] -> [N, K, D]."""
    return tokens.gather(1, numbers[..., None].expand(-1, -1, tokens.shape[-1]))


def _initialize(*modules: nn.Module) -> None:
    """Truncated normal weights (std 0.02) and zero biases, as both papers' reference code."""
    for module in (part for whole in modules for part in whole.modules()):
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def build_mae(params: Mae) -> FCMAE | ViTMAE:
    """The autoencoder for `params.encoder`, initialised from PyTorch's global generator (seed it first).

    Raises `UserError` for an unknown or unsuitable encoder, an `input_size` that is no multiple of the patch, or a
    `decoder_dim` the decoder cannot have.
    """
    check_timm(params.encoder, f"{KEY}.encoder")
    if params.encoder.startswith("convnextv2_"):
        encoder = bare_convnext(params.encoder)
        _check_convnext(encoder, params.encoder)
        model: FCMAE | ViTMAE = FCMAE(encoder, params.decoder_dim, params.decoder_depth)
    elif params.encoder.startswith("vit_"):
        model = ViTMAE(_checked_vit(params), params.decoder_dim, params.decoder_depth, params.mask_ratio)
    else:
        raise UserError(f"{KEY}.encoder = {params.encoder!r}: allowed: ConvNeXt-V2 (convnextv2_*) and ViT (vit_*)")
    _check_size(params, model.patch)
    grn.replace(model)
    depthwise.replace(model)
    return model


def _check_convnext(encoder: Any, name: str) -> None:
    whole = isinstance(encoder, ConvNeXt) and encoder.stem[0].kernel_size == encoder.stem[0].stride
    if not whole or not isinstance(encoder.stages[0].blocks[0].mlp.grn, GlobalResponseNorm):
        raise UserError(f"{KEY}.encoder = {name!r}: not a ConvNeXt-V2 with a patch stem, e.g. convnextv2_atto")


def _checked_vit(params: Mae) -> Any:
    allowed = "e.g. vit_tiny_patch16_224, vit_small_patch16_224 or vit_base_patch16_224"
    try:
        encoder = bare_vit(params.encoder)
    except (TypeError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{KEY}.encoder = {params.encoder!r}: no plain vision transformer ({error}); {allowed}"
        ) from None
    plain = isinstance(encoder, VisionTransformer) and getattr(encoder, "pos_embed", None) is not None
    if not plain or encoder.embed_dim % 4:
        raise UserError(f"{KEY}.encoder = {params.encoder!r}: has no absolute positions to encode; {allowed}")
    if params.decoder_dim % HEAD_WIDTH:
        raise UserError(f"{KEY}.decoder_dim = {params.decoder_dim}: must be a multiple of {HEAD_WIDTH} for a ViT")
    return encoder


def _check_size(params: Mae, patch: int) -> None:
    if any(side % patch for side in params.input_size):
        near = [max(patch, round(side / patch) * patch) for side in params.input_size]
        raise UserError(
            f"{KEY}.input_size = {list(params.input_size)}: both sides must be multiples of {patch} "
            f"for {params.encoder}; nearest: {near}"
        )
    if params.input_size[0] * params.input_size[1] < 2 * patch * patch:
        raise UserError(f"{KEY}.input_size = {list(params.input_size)}: needs at least two patches of {patch} pixels")

"""MAE and FCMAE steps beside the same networks on all patches: `python -m benchmarks.pretraining`.

ViT: the encoder on the visible quarter of the patches (what `pretrain` does) against the encoder on all of them with
mask tokens put in before it (SimMIM, Xie et al. 2022), same decoder, loss, optimizer and batch.
FCMAE: masked convolutions on dense tensors; the side beside it is the plain encoder on whole images.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.harness import alternate, arguments, rates, save
from retrace.compat.timm import with_positions
from retrace.config.pretrain import Mae
from retrace.config.steps import AdamW
from retrace.models.mae import FCMAE, ViTMAE, build_mae, random_mask, reconstruction_loss
from retrace.seeds import seed_everything
from retrace.training.optimizers import build_optimizer

CASES = {  # name, image size, batch, share hidden
    "ViT-S/16 MAE": ("vit_small_patch16_224", (224, 224), 8, 0.75),
    "ConvNeXt-V2-atto FCMAE": ("convnextv2_atto", (224, 224), 8, 0.6),
}


class AllTokens(ViTMAE):
    """The same autoencoder whose encoder is given every token, the hidden ones as one learned vector."""

    def __init__(self, whole: ViTMAE):
        nn.Module.__init__(self)
        self.encoder, self.patch, self.project = whole.encoder, whole.patch, whole.project
        self.mask_token, self.decoder, self.norm, self.predict = (
            whole.mask_token,
            whole.decoder,
            whole.norm,
            whole.predict,
        )
        self.hidden = nn.Parameter(torch.zeros(whole.encoder.embed_dim))

    def forward(self, images: Tensor, masked: Tensor) -> Tensor:
        """As `ViTMAE.forward`, at the cost of encoding all L tokens."""
        encoder = self.encoder
        patches = encoder.patch_embed(images)  # [N, L, D], or [N, h, w, D] where sizes may vary
        patches = torch.where(masked.reshape(*patches.shape[:-1], 1), self.hidden, patches)
        tokens = encoder.norm(encoder.blocks(encoder.norm_pre(with_positions(encoder, patches))))
        return self.predict(self.norm(self.decoder(self.project(tokens))[:, encoder.num_prefix_tokens :]))


class Dense(nn.Module):
    """An FCMAE with nothing hidden from its encoder: plain timm blocks, same decoder."""

    def __init__(self, whole: FCMAE):
        super().__init__()
        self.whole = whole

    def forward(self, images: Tensor, masked: Tensor) -> Tensor:
        """As `FCMAE.forward`."""
        x = self.whole.project(self.whole.encoder.forward_features(images))
        return self.whole.predict(self.whole.decoder(x)).flatten(2).transpose(1, 2)


def steps(model: nn.Module, patch: int, images: Tensor, masked: Tensor, count: int) -> Callable[[], None]:
    """`count` training steps on one batch."""
    optimizer = build_optimizer(AdamW(lr=1e-4), model)

    def run() -> None:
        for _ in range(count):
            loss = reconstruction_loss(model(images, masked), images, masked, patch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return run


def main() -> None:
    """Time both and write benchmarks/results/pretraining.json."""
    parser = arguments(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for name, (encoder, size, batch, ratio) in CASES.items():
        count = 1 if options.tiny else 4
        batch = 2 if options.tiny else batch
        seed_everything(0)
        optimizer = AdamW(lr=1e-4)
        mae = Mae(
            encoder=encoder,
            input_size=size,
            mask_ratio=ratio,
            decoder_dim=192,
            epochs=1,
            batch_size=batch,
            optimizer=optimizer,
        )
        models = [build_mae(mae) for _ in range(2)]
        patch = models[0].patch
        tokens = (size[0] // patch) * (size[1] // patch)
        images = torch.randn(batch, 3, *size)
        masked = torch.stack([random_mask(tokens, ratio, index) for index in range(batch)])
        other: nn.Module = AllTokens(models[1]) if isinstance(models[1], ViTMAE) else Dense(models[1])
        sides = {
            "retrace": steps(models[0], patch, images, masked, count),
            "all patches": steps(other, patch, images, masked, count),
        }
        found = rates(alternate(sides, options.repetitions), batch * count)
        gain = found["retrace"]["median"] / found["all patches"]["median"]
        rows.append({"model": name, "images_per_second": found, "gain": gain, "mask_ratio": ratio})
    save("pretraining", options.tiny, rows, threads=options.threads, repetitions=options.repetitions)


if __name__ == "__main__":
    main()

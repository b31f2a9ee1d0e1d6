"""Parameters of optimizers and learning-rate schedules, one class per kind."""

from typing import Annotated, Literal

from pydantic import Field

from retrace.config.base import Block, Fraction, NotNegative, Positive, chosen_by

Precision = Literal["32-true", "16-mixed", "bf16-mixed"]


class Optimizer(Block):
    """What every optimizer has."""

    name: str
    lr: Positive
    encoder_lr: Positive | None = None  # of the encoder (backbone); null: lr
    weight_decay: NotNegative = 0.0
    clip_norm: Positive | None = None  # largest norm of the gradients; null: not clipped


class AdamW(Optimizer):
    """AdamW with PyTorch's betas."""

    name: Literal["adamw"] = "adamw"


class Sgd(Optimizer):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"]
    momentum: Fraction = 0.9


class Schedule(Block):
    """What every schedule has: a linear warm-up, then the rate at which training goes on."""

    name: str
    warmup_epochs: NotNegative = 0.0


class Constant(Schedule):
    """The base rate to the end."""

    name: Literal["constant"]


class Cosine(Schedule):
    """Half a cosine down to `final_lr`."""

    name: Literal["cosine"] = "cosine"
    final_lr: NotNegative = 0.0


class Poly(Schedule):
    """(1 - progress)^power down to `final_lr`."""

    name: Literal["poly"]
    final_lr: NotNegative = 0.0
    power: Positive = 0.9


AnyOptimizer = Annotated[AdamW | Sgd, Field(discriminator="name"), chosen_by("name", (AdamW, Sgd), "adamw")]
AnySchedule = Annotated[
    Constant | Cosine | Poly,
    Field(discriminator="name"),
    chosen_by("name", (Constant, Cosine, Poly), "cosine"),
]

"""studies/gpu.json: what the full-size trainings need of a GPU, from `benchmarks.gpu.computed`."""

from typing import ClassVar

from retrace.documents.base import Document, Part

# GiB that a process has of a card of so many GB, after what the driver keeps
CARDS = {16: 14.5, 8: 7.5, 4: 3.5}
SMALLEST = min(CARDS.values())
BLOCKS = 1.1  # PyTorch's allocator keeps freed blocks, some too small for what comes next
CONTEXT_MIB = 512  # CUDA's context and the workspaces of cuBLAS and cuDNN


def needed_gib(tensors_mib: int) -> float:
    """GiB of a card that a training takes whose tensors take `tensors_mib` at their peak."""
    return (tensors_mib * BLOCKS + CONTEXT_MIB) / 1024


class Need(Part):
    """A step of a training with one batch size."""

    study: str
    training: str  # a phase, or pretrain
    input_size: list[int]  # [height, width], pixels; of Faster R-CNN the largest
    batch_size: int
    accumulate: int  # batches per optimizer step
    as_in_study: bool  # the batch size and the accumulation of the study file
    tensors_mib: int  # peak of a step, with weights and the state of the optimizer
    needed_gib: float  # of the card: `needed_gib(tensors_mib)`
    images_per_second: float  # of the network on the card that `rate_of` names
    images: int | None  # of an epoch, where they are published


class GpuNeeds(Document):
    """`rate_of`: the card whose speed was computed; `torch`: the version that gave the sizes."""

    again: ClassVar[str] = "`python -m benchmarks.gpu.computed`"

    rate_of: str
    torch: str
    rows: list[Need]

    def of(self, study: str, training: str) -> list[Need]:
        """The rows of a training, by falling batch size."""
        return [row for row in self.rows if (row.study, row.training) == (study, training)]

    def fitting(self, study: str, training: str, gib: float) -> Need | None:
        """The study's own batch if it fits into so many GiB, else the largest that does."""
        rows = [row for row in self.of(study, training) if row.needed_gib <= gib]
        own = [row for row in rows if row.as_in_study]
        return next(iter([*own, *rows]), None)

"""What a task hands to `finetune`: data, loss and validation of one phase, ready for the loop."""

from dataclasses import dataclass

from torch.utils.data import DataLoader

from retrace.training.loop import Task


@dataclass(frozen=True)
class Job:
    """One phase of one task."""

    loader: DataLoader  # training batches
    task: Task
    mean: tuple[float, ...]  # of RGB in 0...1, as the network's input is normalized
    std: tuple[float, ...]

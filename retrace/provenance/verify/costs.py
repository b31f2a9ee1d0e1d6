"""What it costs on disk to keep the state after every epoch."""

from pathlib import Path

from retrace.config.schema import Params
from retrace.config.yolo import UltralyticsPhase
from retrace.documents.scores import read_scores

UNITS = ("B", "kB", "MB", "GB", "TB")
FULL = 4  # bytes of a value in a state


def bytes_of_states(results: Path, params: Params) -> int | None:
    """About how many bytes the states of all phases and repeats have, from the sizes in their scores; None: not known.

    A state holds the weights, those of the best epoch so far, the average if there is one, and what the optimizer
    keeps: one value per trained parameter, Adam and AdamW two. Pre-training, of which Git keeps no sizes, is not
    counted.
    """
    total = 0
    for name, training in params.trainings.items():
        file = f"metrics/{params.study}/{name}.json"
        if not (results / file).is_file():
            return None
        scores = read_scores(results / file, file)
        phase = params.phases[training.phase]
        if isinstance(phase, UltralyticsPhase):
            copies = 3
            adaptive = phase.hyperparameters.optimizer != "SGD"
        else:
            copies = 3 if phase.ema else 2
            adaptive = phase.optimizer.name == "adamw"
        moments = 2 if adaptive else 1
        trained = scores.training.trainable_parameters * FULL
        total += (copies * scores.training.parameters * FULL + moments * trained) * scores.training.epochs_run
    return total


def readable(size: int) -> str:
    """Bytes with a decimal unit, two digits: "1.2 GB"."""
    value, unit = float(size), 0
    while value >= 1000 and unit + 1 < len(UNITS):
        value, unit = value / 1000, unit + 1
    return f"{value:.{0 if value >= 10 else 1}f} {UNITS[unit]}"

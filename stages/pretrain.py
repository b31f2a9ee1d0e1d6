"""Starting weights for the phases: self-supervised, from a checked file, or none: `python -m stages.pretrain`.

Writes models/<study>/pretrain/ and models/<study>/none/. Interrupted, `mae` goes on from the last complete epoch.
"""

import os
import shutil
from collections.abc import Callable
from typing import Any

from retrace.config.training import TrainingParams, load_training
from retrace.documents.start import StartFile
from retrace.errors import UserError, stage
from retrace.files import sha256_of, whole_folder
from retrace.models.initial import start_folder, write_none, write_start
from retrace.models.published import fetch
from retrace.provenance.run_log import journal

Note = dict[str, Any]


def published_weights(params: TrainingParams, note: Note) -> None:
    """Copy each checkpoint of `pretrain.weights` beside start.json, once its hash is right."""
    chosen = params.pretrain.weights
    assert chosen  # the schema sees to it
    files = {}
    with whole_folder(start_folder(params.study, "pretrain")) as folder:
        for key, weights in sorted(chosen.items()):
            source = fetch(weights, key)
            copy = folder / f"{key}{source.suffix.lower()}"
            shutil.copyfile(source, copy)
            files[key] = StartFile(file=copy.name, sha256=sha256_of(copy))
        write_start(folder, "weights", files)
    write_none(params.study)
    note["files"] = {key: weights.name or weights.path for key, weights in sorted(chosen.items())}


def no_weights(params: TrainingParams, note: Note) -> None:
    """Every phase starts from random numbers."""
    with whole_folder(start_folder(params.study, "pretrain")) as folder:
        write_start(folder, "none")
    write_none(params.study)


METHODS: dict[str, Callable[[TrainingParams, Note], None]] = {"weights": published_weights, "none": no_weights}


@stage
def main() -> None:
    """Write the starting weights of params.yaml's study."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        _main()
        return
    from retrace.training.processes import together_from_the_start  # loads torch

    with together_from_the_start():
        _main()


def _main() -> None:
    params = load_training()
    method = params.pretrain.method
    if method == "mae":
        _self_supervised(params)
        return
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise UserError(f"pretrain.method = {method!r} trains nothing; run it without torchrun")
    with journal(params.study, "pretrain") as note:
        note["method"] = method
        METHODS[method](params, note)


def _self_supervised(params: TrainingParams) -> None:
    # imported here: torch and all that trains take seconds to load, and the other methods need none of it
    from retrace.allocator import keep_freed_memory
    from retrace.seeds import make_deterministic
    from retrace.training.launch import spread
    from retrace.training.pretraining import masked_autoencoder

    if spread(params.machine, "stages.pretrain", []):
        return
    keep_freed_memory()
    make_deterministic(params.runtime)
    with journal(params.study, "pretrain") as note:
        note["method"] = "mae"
        masked_autoencoder(params, note)


if __name__ == "__main__":
    main()

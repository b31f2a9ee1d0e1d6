"""Compare the record of each training's bits, hashes.json, with the scores and the weights of the same commit.

The scores, which Git keeps, hold the chain of the training; the row of the best epoch holds the digests of the weights.
"""

from collections.abc import Iterator
from pathlib import Path

from retrace.config.schema import Params
from retrace.documents.hashes import HASHES, SHORT, EpochHashes, Hashes
from retrace.documents.scores import read_scores
from retrace.documents.training import Training

PRETRAIN = "pretrain"
WEIGHTS, TRAINING = "weights.safetensors", "train.json"  # best.pt of Ultralytics is rounded to float16
WRAPPED = "network."  # how a segmentation network's tensors are called during the training


def trainings(params: Params) -> list[str]:
    """The names of all trainings: the pre-training if it trains, every phase and every repeat."""
    first = [PRETRAIN] if params.pretrain.method == "mae" else []
    return [*first, *params.trainings]


def record_of(results: Path, study: str, name: str) -> Hashes | None:
    """hashes.json of a training; None where it is not in the folder `results`, laid out like the project."""
    file = f"models/{study}/{name}/{HASHES}"
    return Hashes.read(results / file, file) if (results / file).is_file() else None


def chain_of(results: Path, study: str, name: str) -> list[str] | None:
    """The chain of a training: that of its scores, else that of hashes.json; None where neither has one."""
    scores = f"metrics/{study}/{name}.json"
    if (results / scores).is_file():
        chain = read_scores(results / scores, scores).training.chain
        if chain is not None:
            return chain
    record = record_of(results, study, name)
    return None if record is None else [row.chain for row in record.epochs]


def check(results: Path, params: Params) -> list[str]:
    """What does not fit together, one line each, of the trainings whose files are in `results`.

    Raises:
        UserError: a file is damaged.
    """
    wrong: list[str] = []
    for name in trainings(params):
        record = record_of(results, params.study, name)
        if record is None:
            continue
        folder = f"models/{params.study}/{name}"
        found = [*_links(record), *_other_chain(record, chain_of(results, params.study, name), params.study, name)]
        if not found and (results / folder / TRAINING).is_file():
            training = Training.read(results / folder / TRAINING, f"{folder}/{TRAINING}")
            found += _weights(record, training.best_epoch, results / folder / WEIGHTS)
        wrong += [f"{folder}/{line}" for line in found]
    return wrong


def _links(record: Hashes) -> Iterator[str]:
    """Rows whose chain is not that of their content and of the row before."""
    from retrace.training.record import link  # loads torch

    before = ""
    for row in record.epochs:
        content = row.content()
        wanted = link(before, {key: value for key, value in content.items() if key != "chain"})
        if row.chain != wanted:
            yield f"{HASHES}: epoch {row.epoch}: chain {row.chain}, where its digests give {wanted}"
        before = row.chain


def _other_chain(record: Hashes, chain: list[str] | None, study: str, name: str) -> Iterator[str]:
    mine = [row.chain for row in record.epochs]
    if chain is not None and mine != chain:
        pairs = zip(mine, chain, strict=False)
        epoch = next((epoch for epoch, (one, other) in enumerate(pairs) if one != other), min(len(mine), len(chain)))
        yield f"{HASHES}: from epoch {epoch} on, its chain is not that of metrics/{study}/{name}.json"


def _weights(record: Hashes, best_epoch: int, file: Path) -> Iterator[str]:
    """Tensors of the shipped weights that are not those of the best epoch."""
    if not file.is_file():
        return
    from retrace.models.weights import read_tensors
    from retrace.training.digests import digest_of

    row = next((row for row in record.epochs if row.epoch == best_epoch), None)
    if row is None:
        yield f"{HASHES}: has no row of epoch {best_epoch}, the best one of {TRAINING}"
        return
    recorded = _short_digests(row, record.tensors)
    found = {name: digest_of(tensor) for name, tensor in read_tensors(file).items()}
    for name in (*recorded, *(name for name in found if name not in recorded)):
        if recorded.get(name) != found.get(name, "")[:SHORT]:
            yield f"{file.name}: {name}: not the tensor that {HASHES} records of epoch {best_epoch}"
            return
    names = [name for name in record.tensors if not name.startswith(("average/", "optimizer/"))]
    if row.average is None and row.model != digest_of({name: found[_shipped(name)] for name in names}):
        yield f"{file.name}: not the weights that {HASHES} records of epoch {best_epoch}"


def _short_digests(row: EpochHashes, tensors: list[str]) -> dict[str, str]:
    """{name in the file of weights: digest} of the weights that are scored: the average where there is one."""
    averaged = "average/module."
    found = {}
    for index, name in enumerate(tensors):
        if name.startswith(averaged) if row.average is not None else not name.startswith("optimizer/"):
            found[_shipped(name.removeprefix(averaged))] = row.tensors[index * SHORT : (index + 1) * SHORT]
    return found


def _shipped(name: str) -> str:
    return name.removeprefix(WRAPPED)

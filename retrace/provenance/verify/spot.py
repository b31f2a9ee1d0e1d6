"""`retrace verify --spot k`: run k epochs again, drawn at random, each from its kept state, then evaluation and report.

An epoch follows from the state after the epoch before and from (seed, epoch), so each can be run again by itself.
"""

import hashlib
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrace.config.trainings import stage_of
from retrace.documents.hashes import Outcome
from retrace.errors import UserError
from retrace.files import SCRATCH
from retrace.progress import bars
from retrace.provenance.verify.chains import PRETRAIN, chain_of, trainings
from retrace.provenance.verify.checks import Compared, compare_reports, compare_stages
from retrace.provenance.verify.clone import bring_inputs
from retrace.provenance.verify.comparison import outcome, write_comparison
from retrace.provenance.verify.costs import bytes_of_states, readable
from retrace.provenance.verify.job import Job
from retrace.provenance.verify.material import check_out
from retrace.provenance.verify.outs import DIFFERENT, SAME, SHORT, Row
from retrace.provenance.verify.records import stage_names
from retrace.provenance.verify.rerun import compared_environment, rerun

FINGERPRINT = "[0-9a-f]" * 16
SHA256 = hashlib.sha256().digest_size  # at the end of the file of a state
KEEP = "`dvc exp run --force -S machine.keep_states=true`"


@dataclass(frozen=True)
class Epoch:
    """One epoch of a training, from 1."""

    training: str
    number: int


@dataclass(frozen=True)
class Draw:
    """The epochs to run again, and of how many they were drawn; `left_out`: trainings without a record."""

    epochs: list[Epoch]
    total: int
    seed: int
    left_out: list[str]

    def chance(self) -> str:
        """How probably tampering with one epoch is seen."""
        count = len(self.epochs)
        share = f"{count} in {self.total} ({100 * count / self.total:.0f} %)"
        return f"tampering with one epoch would have been seen with a chance of {share}"


def draw(job: Job, count: int, seed: int | None) -> Draw:
    """Choose epochs of all trainings, each with the same probability.

    Args:
        count: how many epochs, from 1.
        seed: of the choice; None: one that nobody can know beforehand.

    Raises:
        UserError: bits need not be the same here, a state is not kept, or there are not so many epochs.
    """
    if not job.bits:
        raise UserError(f"--spot compares bits, which this machine need not reproduce: {job.why}; leave out --spot")
    known: list[Epoch] = []
    left_out, without = [], []
    for name in trainings(job.params):
        chain = chain_of(job.before, job.params.study, name)
        if chain is None:
            left_out.append(name)
            continue
        epochs = [Epoch(name, number) for number in range(1, len(chain))]
        if not all(epoch.number == 1 or _states(job, epoch) for epoch in epochs):
            without.append(name)
        known += epochs
    if without:
        raise UserError(_no_states(job, without))
    if not known:
        raise UserError(f"{job.params.study}: no training has a record of its epochs (hashes.json); `dvc repro`")
    if count > len(known):
        raise UserError(f"--spot {count}: the trainings have {len(known)} epochs; allowed: 1 to {len(known)}")
    seed = secrets.randbelow(2**32) if seed is None else seed
    return Draw([known[index] for index in choose(len(known), count, seed)], len(known), seed, left_out)


def choose(total: int, count: int, seed: int) -> list[int]:
    """`count` different numbers from 0 to `total` - 1, each with the same probability; sorted."""
    return sorted(np.random.default_rng(seed).choice(total, count, replace=False).tolist())


def _no_states(job: Job, without: list[str]) -> str:
    folder = f"{SCRATCH}/states/{job.params.study}"
    size = bytes_of_states(job.before, job.params)
    cost = "" if size is None else f"; it takes about {readable(size)} of disk for all trainings of this study"
    return (
        f"{folder}: the states after the epochs of {', '.join(without)} are not kept, so no epoch can be run again by "
        f"itself; train with {KEEP}{cost}"
    )


def _states(job: Job, epoch: Epoch) -> list[Path]:
    """The kept files of the state that an epoch starts from; of other code or parameters too."""
    folder = job.project / SCRATCH / "states" / job.params.study
    return sorted(folder.glob(f"{epoch.training}-{FINGERPRINT}/epoch-{epoch.number - 1:06d}.ckpt"))


def ready(job: Job) -> None:
    """Bring the outs that the drawn epochs and the evaluation start from, from the cache into the clone.

    Raises:
        UserError: one of them is not in the cache.
    """
    bring_inputs(job.project, job.root, job.params, data_from_cache=True)
    for stage in _kept_stages(job):
        for out, md5 in job.record.outs[stage].items():
            if not (job.root / out).exists():
                check_out(job.cache, out, md5, job.root, "--spot")


def _kept_stages(job: Job) -> list[str]:
    """The stages that are not run again."""
    return [name for name in stage_names(job.params) if name != "report" and not name.startswith("evaluate")]


def run_spot(job: Job, drawn: Draw) -> Compared:
    """Run the drawn epochs, then evaluation and report, and compare; ends at the first epoch that differs.

    Raises:
        UserError: a stage failed.
    """
    job.log.parent.mkdir(parents=True, exist_ok=True)
    job.log.unlink(missing_ok=True)
    rows: list[Row] = []
    with bars() as progress:
        task = progress.add_task("epochs", total=len(drawn.epochs), info="")
        for epoch in drawn.epochs:
            progress.update(task, info=f"{epoch.training}, epoch {epoch.number}")
            rows.append(_row(job, epoch, _run(job, epoch)))
            progress.advance(task)
            if rows[-1].result == DIFFERENT:
                return Compared(rows, stopped=True)
    kept = _kept_stages(job)
    stages = [name for name in stage_names(job.params) if name not in kept]
    rerun(job.root, job.log, "evaluation", len(stages), [["--single-item", *stages]])
    return Compared(rows + compare_stages(job, stages) + compare_reports(job))


def _run(job: Job, epoch: Epoch) -> Outcome:
    """Run one epoch in the clone."""
    name, study = epoch.training, job.params.study
    compare = job.before.parent / f"compare-{name}-{epoch.number}"
    compare.mkdir()
    write_comparison(compare, job.before, job.project, study, name, after=epoch.number - 1, until=epoch.number)
    scratch = job.root / SCRATCH / "scratch" / study
    shutil.rmtree(scratch, ignore_errors=True)
    for file in _states(job, epoch):
        content = file.read_bytes()
        if hashlib.sha256(content[:-SHA256]).digest() != content[-SHA256:]:
            shown = file.relative_to(job.project)
            return Outcome(epoch=epoch.number - 1, same=False, note=f"{shown} is damaged: its bytes changed since")
        (scratch / file.parent.name).mkdir(parents=True)
        shutil.copyfile(file, scratch / file.parent.name / file.name)
    words = ["stages.pretrain"] if name == PRETRAIN else ["stages.finetune", name]
    with open(job.log, "a", encoding="utf-8") as stream:
        stream.write(f"Running epoch {epoch.number} of '{name}'\n")
        stream.flush()
        subprocess.run(
            [sys.executable, "-m", *words],
            cwd=job.root,
            env=compared_environment(compare),
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,  # it always ends with an error, which says what was found
        )
    found = outcome(compare, name)
    if found is None:
        raise UserError(f"epoch {epoch.number} of {name} could not be run again; see its output in {job.log}")
    return found


def _row(job: Job, epoch: Epoch, found: Outcome) -> Row:
    chain = (chain_of(job.before, job.params.study, epoch.training) or [])[epoch.number][:SHORT]
    stage = PRETRAIN if epoch.training == PRETRAIN else stage_of("finetune", epoch.training)
    if found.same:
        return Row(stage, f"epoch {epoch.number}", chain, chain, SAME)
    return Row(stage, f"epoch {epoch.number}", chain, "other", DIFFERENT, (f"{stage}: {found.sentence()}",))

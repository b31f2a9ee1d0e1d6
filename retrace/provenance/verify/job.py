"""The inputs of one verification: the commit in a temporary clone, its parameters and its recorded hashes."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from retrace import environment
from retrace.config.schema import Params
from retrace.documents.provenance import Provenance
from retrace.errors import UserError
from retrace.files import LOGS
from retrace.numerics import architecture, cpu_model
from retrace.provenance.md5 import Cache, cache_of
from retrace.provenance.verify.clone import bring_inputs, clone, parameters, use_empty_cache
from retrace.provenance.verify.expected import Processor, card_name, demands_bits, incomparable
from retrace.provenance.verify.material import check_out
from retrace.provenance.verify.records import Record, committed


@dataclass(frozen=True)
class Job:
    """Folders: `project` is the user's, `root` the clone, `before` a copy of what the commit holds of the results."""

    project: Path
    commit: str
    root: Path
    before: Path
    params: Params
    record: Record
    origin: Provenance | None  # the committed one
    cache: Cache  # of the user's project
    bits: bool  # whether the rerun must give the same bytes
    why: str  # ... and the reason
    incomparable: str | None  # why a rerun here would show nothing
    data_from_cache: bool

    @property
    def log(self) -> Path:
        """Where the stages' output goes; outside the clone, so that it outlives it."""
        return self.project / LOGS / "verify" / f"{self.params.study}-{self.commit[:12]}.log"


def prepare(project: Path, commit: str, study: str | None, data_from_cache: bool, temporary: Path) -> Job:
    """Clone the commit and read what it recorded.

    Raises:
        UserError: the environment is not the commit's lock (every package that differs is named), or the commit holds
            no result of the study.
    """
    root = clone(project, commit, temporary / "clone")
    wrong = environment.differences(root / environment.LOCK)
    if wrong:
        listed = "\n       ".join(wrong)
        raise UserError(
            f"the installed packages differ from {environment.LOCK} of commit {commit[:12]}:\n       {listed}\n"
            "       nothing was rerun; rebuild the environment first: rm -rf .venv && make venv"
        )
    use_empty_cache(root, temporary / "cache")
    origin = origin_of(root, study)
    params = parameters(root, study, "cpu" if origin is not None and origin.devices == ["cpu"] else "auto")
    origin = origin or origin_of(root, params.study)
    from retrace.models.predict import choose_device, describe_device

    device = describe_device(choose_device(params.machine.device))
    card = card_name(device.device_name, device.capability) if device.device_name else None
    here = Processor(architecture(), cpu_model(), device.device, card)
    bits, why = demands_bits(params, origin, here)
    record = committed(root, params)
    before = _copy_results(root, temporary / "committed", params.study)
    return Job(
        project,
        commit,
        root,
        before,
        params,
        record,
        origin,
        cache_of(project),
        bits,
        why,
        incomparable(params, origin, here),
        data_from_cache,
    )


def ready(job: Job) -> None:
    """Bring what Git does not carry into the clone; see `bring_inputs` and `check_out`."""
    bring_inputs(job.project, job.root, job.params, job.data_from_cache)
    if job.data_from_cache:
        (raw,) = job.record.outs["collect"]
        check_out(job.cache, raw, job.record.outs["collect"][raw], job.root, "--data-from-cache")


def origin_of(root: Path, study: str | None) -> Provenance | None:
    """The committed provenance.json of a study; None where there is none."""
    path = root / "reports" / (study or "") / "provenance.json"
    name = f"reports/{study}/provenance.json"
    return Provenance.read(path, name) if study and path.is_file() else None


def _copy_results(root: Path, target: Path, study: str) -> Path:
    target.mkdir(parents=True)
    for name in (f"metrics/{study}", f"reports/{study}", f"reports/{study}-ablation", "plots"):
        if (root / name).is_dir():
            shutil.copytree(root / name, target / name)
    for name in ("metrics.json", "params.yaml"):
        if (root / name).is_file():
            shutil.copy2(root / name, target / name)
    return target

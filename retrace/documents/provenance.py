"""reports/<study>/provenance.json: what a report was made from, on which machine and when."""

from retrace.documents.base import Document, Part
from retrace.documents.speed import Speed
from retrace.environment import Image


class Lock(Part):
    """The environment's lock file; `sha256` is None where there is none."""

    file: str
    sha256: str | None


class Data(Part):
    """The manifest, and the images of each split in use."""

    manifest: str = ""
    sha256: str | None
    images: dict[str, int]


class Sums(Part):
    """md5 of what a stage read and wrote, by path; None where DVC gave none."""

    deps: dict[str, str | None]
    outs: dict[str, str | None]


class Git(Part):
    """State of the repository; Nones outside of one."""

    commit: str | None
    dirty: bool | None
    changed: list[str]


class Images(Part):
    """The container image of the report, and the steps that ran with another lock file."""

    report: Image | None
    unpinned_steps: list[str]


class Card(Part):
    """A GPU that trained or scored, and what else decides the last bits of its results."""

    name: str
    capability: str | None  # e.g. "7.5"
    driver: str | None  # version
    cuda: str | None  # version
    cudnn: str | None  # version
    tf32: str | None  # what may compute float32 in TF32: convolutions, products, or none


class Hardware(Part):
    """Devices that trained and scored, CUDA versions, and the kinds of device available."""

    names: list[str]
    cuda: list[str]
    available: list[str]
    cards: list[Card] = []  # written only where there is one


class StageRun(Part):
    """A stage of this run; None where it was restored from the cache."""

    status: str
    started: str | None
    seconds: float | None
    gpu_memory_mib: int | None = None  # most that PyTorch reserved; written only where known


class Run(Part):
    """This run, and its stages by name."""

    status: str = ""
    started: str | None = None
    seconds: float | None = None
    stages: dict[str, StageRun]


class Provenance(Document):
    """What a report was made from.

    `run`, `image`, `speed`, `git`, `platform` and `tensorboard` describe this run; the rest is
    equal everywhere.
    """

    study: str = ""
    seed: int
    threads: int
    numerics: str = "native"  # records from before had no other
    lock: Lock
    data: Data | None = None
    stages: dict[str, Sums]  # by stage
    packages: dict[str, str]  # versions
    python: str
    git: Git
    image: Images = Images(report=None, unpinned_steps=[])
    platform: str
    cpu: str | None = None
    architecture: str | None = None
    devices: list[str]
    processes: dict[str, int] = {}  # that trained each phase, and `pretrain`
    hardware: Hardware = Hardware(names=[], cuda=[], available=[])
    tensorboard: dict[str, dict[str, int]] = {}  # points of each curve, by phase and tag
    run: Run
    speed: dict[str, Speed] = {}  # by phase

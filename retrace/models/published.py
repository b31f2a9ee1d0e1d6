"""Starting weights from a local file or a named checkpoint, downloaded once and hashed before anything reads them."""

import re
from pathlib import Path

from retrace.config.pretrain import Weights
from retrace.downloads import DOWNLOADS, downloaded
from retrace.errors import UserError
from retrace.files import sha256_of

YOLO = re.compile(r"yolo11[nsm](\.pt)?")
YOLO_RELEASE = "https://github.com/ultralytics/assets/releases/download/v8.4.0/"
HASHED = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")  # PyTorch's rule: a file name ends in the first digits of its sha256
HUB = "https://huggingface.co/{repo}/resolve/{revision}/model.safetensors"


def fetch(weights: Weights, key: str = "all") -> Path:
    """The verified checkpoint file of `pretrain.weights.<key>`: a local path, or a named one in .retrace/downloads.

    Without `sha256`, a download is checked against the digits in its published file name (torchvision's have 8); where
    there are none it is not used until its sha256 is given. Raises `UserError` when the file is missing, the name
    unknown, the download fails, or the sha256 is another.
    """
    where = f"pretrain.weights.{key}"
    if weights.path is not None:
        path = Path(weights.path)
        if not path.is_file():
            raise UserError(f"{where}.path = {weights.path!r}: no such file; put it there or change the path")
        _check(path, weights, where, weights.sha256 or "")
        return path
    assert weights.name is not None  # the schema sees to it
    url = address(weights.name, where)
    file = url.rsplit("/", 1)[1]
    expected = weights.sha256 or _published_hash(url)
    path = DOWNLOADS / f"{expected[:16]}-{file}"
    if expected and path.is_file() and sha256_of(path).startswith(expected):
        return path
    what = f"{where}.name = {weights.name!r}"
    instead = f"download {url} on another machine and set {where}.path to the file (with name: null and its sha256)"
    with downloaded(url, what, instead) as partial:
        if not expected:
            raise _unpinned(partial, file, weights.name, where)
        _check(partial, weights, where, expected)
        partial.replace(path)
    return path


def _published_hash(url: str) -> str:
    """The first hex digits of the sha256 that the file name carries; empty where it carries none."""
    found = HASHED.search(url)
    return found.group(1) if found else ""


def _unpinned(partial: Path, file: str, name: str, where: str) -> UserError:
    """Nothing vouches for this file, so a person must: it is kept, and used once its sha256 is in params.yaml."""
    found = sha256_of(partial)
    kept = partial.with_name(f"{found[:16]}-{file}")
    partial.replace(kept)
    return UserError(
        f"{where}.sha256: missing, and the published name of {name!r} carries no hash to check; the download has "
        f"sha256 {found} and waits unread in {kept}. If you trust it, set {where}.sha256 to that and run again"
    )


def address(name: str, where: str = "pretrain.weights.all") -> str:
    """The https address of a named checkpoint.

    torchvision `<Model>_Weights.<ENTRY>`, Ultralytics `yolo11n|s|m`, timm `<model>.<tag>`,
    segmentation-models-pytorch `<encoder>.<weights>` (e.g. vgg11.imagenet).
    """
    for finder in (_torchvision, _ultralytics, _smp, _timm):
        if url := finder(name):
            return url
    raise UserError(
        f"{where}.name = {name!r}: no such checkpoint; allowed: a torchvision name such as "
        "DeepLabV3_MobileNet_V3_Large_Weights.DEFAULT, yolo11n, yolo11s, yolo11m, a timm name such as "
        "convnextv2_atto.fcmae, or a segmentation-models-pytorch encoder such as vgg11.imagenet; or use path for a file"
    )


def _torchvision(name: str) -> str | None:
    from torchvision.models import get_weight

    try:
        return get_weight(name).url
    except (ValueError, KeyError, AttributeError, TypeError):
        return None


def _ultralytics(name: str) -> str | None:
    return YOLO_RELEASE + name.removesuffix(".pt") + ".pt" if YOLO.fullmatch(name) else None


def _smp(name: str) -> str | None:
    from retrace.compat.segmentation_models import checkpoint

    encoder, _, weights = name.partition(".")
    found = checkpoint(encoder, weights)
    return HUB.format(repo=found[0], revision=found[1]) if found else None


def _timm(name: str) -> str | None:
    import timm

    name = name.removeprefix("tu-")
    try:
        config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except (RuntimeError, ValueError):
        return None
    if config is None or not config.has_weights:
        return None
    repo = config.hf_hub_id
    if not repo:
        return str(config.url)
    if repo.endswith("/"):
        repo += f"{config.architecture}.{config.tag}" if config.tag else str(config.architecture)
    return HUB.format(repo=repo, revision="main")


def _check(path: Path, weights: Weights, where: str, expected: str) -> None:
    """expected: the sha256, or its first digits."""
    found = sha256_of(path)
    if not expected or not found.startswith(expected):
        what = weights.path or weights.name
        wanted = expected if weights.sha256 else f"{expected}... as its published name says"
        raise UserError(
            f"{where}: {what} has sha256 {found}, not {wanted}; it was not read. Get the right file, or if you "
            f"trust this one set {where}.sha256 to its hash"
        )

"""The id, the group and the split of every image that a source found."""

import re
from collections.abc import Sequence
from pathlib import Path

from retrace.config.data import Data
from retrace.config.schema import Params
from retrace.data.formats import Item
from retrace.data.formats.convert import Job, by_group, ids
from retrace.data.formats.listing import deal
from retrace.errors import UserError


def jobs_of(items: Sequence[Item], params: Params, folder: Path) -> list[Job]:
    """Every item as a job that writes into `folder`; `UserError` where `data.group` or the split rule cannot work."""
    names = ids([item.name for item in items])
    groups = _groups(items, names, params.data)
    rule = getattr(params.data.source, "split", None)
    undecided = [index for index, item in enumerate(items) if item.split is None]
    dealt = (
        deal(by_group([items[i] for i in undecided], [groups[i] for i in undecided]), rule)
        if undecided and rule
        else {}
    )
    return [
        Job(item, image_id, group, item.split or dealt[group], folder, params.classes)
        for item, image_id, group in zip(items, names, groups, strict=True)
    ]


def _groups(items: Sequence[Item], names: Sequence[str], data: Data) -> list[str]:
    """The source's own group, else what `data.group` captures, else the image alone."""
    pattern = re.compile(data.group) if data.group is not None else None
    groups, matched = [], 0
    for item, image_id in zip(items, names, strict=True):
        match = pattern.search(item.name) if pattern and item.group is None else None
        matched += match is not None and item.split != "unlabeled"
        groups.append(item.group or (match.group(1) if match else None) or image_id)
    labelled = [item for item in items if item.split != "unlabeled"]
    if pattern and labelled and not matched:
        raise UserError(
            f"params.yaml: data.group = {data.group!r}: matches no labelled image, e.g. not {labelled[0].name!r}; "
            "correct it, or set it to null: every image is then its own group"
        )
    return groups

"""The names that `headline`, `claims` and `expected` may give; a test holds them to the scores.

Written out here because the schema must know them before anything is trained,
and imports nothing that computes.
"""

from collections.abc import Sequence

from retrace.config.base import refused
from retrace.config.monitored import MONITORED, of_class

OVERALL = {
    "segmentation": (*MONITORED["segmentation"][0], "mean_boundary_F1"),
    "detection": (
        *("AP50", "AP", "AR", "precision", "recall", "F1", "best_F1"),
        *("AP_small", "AP_medium", "AP_large"),
    ),
}
# measured, but not for a headline
DETAILS = {
    "segmentation": (),
    "detection": ("best_F1_precision", "best_F1_recall", "AP50_as_logged"),
}
PER_CLASS = {
    "segmentation": ("IoU", "precision", "recall", "F1", "boundary_F1"),
    "detection": ("AP50", "AP", "precision", "recall", "F1"),
}
OF_THE_FILE = ("parameters", "bytes", "best_value")
OF_THE_RUN = ("latency_ms", "images_per_second", "video_frames_per_second")
VAL_LOSS = "val_loss"


def check_metric(
    key: str,
    name: str,
    task: str,
    classes: Sequence[str],
    groups: Sequence[str] = (),
    claim: bool = False,
) -> None:
    """Refuse `key` unless evaluation gives this metric.

    claim: those of the training and of the speed too, and the means over `groups` of classes.
    """
    more = (*OF_THE_RUN, VAL_LOSS) if claim else ()
    known = (*OVERALL[task], *DETAILS[task], *OF_THE_FILE, *more)
    if name in known or of_class(name, PER_CLASS[task], classes):
        return
    if claim and name.startswith("group/") and name.removeprefix("group/") in groups:
        return
    per_class = (f"{metric}/<class>" for metric in PER_CLASS[task])
    allowed = [*OVERALL[task], *DETAILS[task], *per_class, *OF_THE_FILE]
    if claim:
        allowed += ["group/<class group>", *OF_THE_RUN, f"{VAL_LOSS} (val only)"]
    raise refused(key, f"not a metric of {task}", name, allowed)

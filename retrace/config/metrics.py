"""The names that `monitor`, `headline`, `claims` and `expected` may give; a test holds them against what is measured.

Written out here because the schema must know them before anything is trained, and imports nothing that computes.
"""

from collections.abc import Sequence

OVERALL = {
    "segmentation": ("mIoU", "focus_mIoU", "pixel_accuracy", "balanced_accuracy"),
    "detection": ("AP50", "AP", "AR", "precision", "recall", "F1", "best_F1", "AP_small", "AP_medium", "AP_large"),
}
DETAILS = {"segmentation": (), "detection": ("best_F1_precision", "best_F1_recall")}  # measured, but not for a headline
PER_CLASS = {
    "segmentation": ("IoU", "precision", "recall", "F1"),
    "detection": ("AP50", "AP", "precision", "recall", "F1"),
}
# what the validation after each epoch gives
MONITORED = {
    "segmentation": (OVERALL["segmentation"], ("IoU",)),
    "detection": (("AP50", "AP", "AR", "AP_small", "AP_medium", "AP_large"), ("AP50", "AP")),
}
OF_THE_FILE = ("parameters", "bytes", "best_value")
OF_THE_RUN = ("latency_ms", "images_per_second", "video_frames_per_second")
VAL_LOSS = "val_loss"


def check_monitor(key: str, name: str, task: str, classes: Sequence[str], focus: Sequence[str]) -> None:
    """Raise a `ValueError` that names `key` unless validation gives this metric, and it can have a value."""
    overall, per_class = MONITORED[task]
    if name not in overall and not _of_class(name, per_class, classes):
        allowed = ", ".join([*overall, *(f"{metric}/<class>" for metric in per_class)])
        raise ValueError(f"{key} = {name!r}: no validation metric of {task}; allowed: {allowed}")
    if name == "focus_mIoU" and not focus:
        raise ValueError(f"{key} = {name!r}: is the mean over report.focus_classes, which names none; name some")


def check_metric(
    key: str, name: str, task: str, classes: Sequence[str], groups: Sequence[str] = (), claim: bool = False
) -> None:
    """Raise a `ValueError` that names `key` unless evaluation gives this metric.

    claim: those of the training and of this run's speed too, and the means over `groups` of classes.
    """
    more = (*OF_THE_RUN, VAL_LOSS) if claim else ()
    if name in (*OVERALL[task], *DETAILS[task], *OF_THE_FILE, *more) or _of_class(name, PER_CLASS[task], classes):
        return
    if claim and name.startswith("group/") and name.removeprefix("group/") in groups:
        return
    allowed = [*OVERALL[task], *DETAILS[task], *(f"{metric}/<class>" for metric in PER_CLASS[task]), *OF_THE_FILE]
    if claim:
        allowed += ["group/<class group>", *OF_THE_RUN, f"{VAL_LOSS} (val only)"]
    raise ValueError(f"{key} = {name!r}: not a metric of {task}; allowed: {', '.join(allowed)}")


def _of_class(name: str, per_class: Sequence[str], classes: Sequence[str]) -> bool:
    metric, slash, of = name.partition("/")
    return bool(slash) and metric in per_class and of in classes

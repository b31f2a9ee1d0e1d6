"""What the validation after each epoch measures: the names that `monitor` may give."""

from collections.abc import Sequence

from retrace.config.base import refused

# task -> (scores over all classes, scores per class); a test holds them against what is measured
MONITORED = {
    "segmentation": (("mIoU", "focus_mIoU", "pixel_accuracy", "balanced_accuracy"), ("IoU",)),
    "detection": (("AP50", "AP", "AR", "AP_small", "AP_medium", "AP_large"), ("AP50", "AP")),
}


def check_monitor(key: str, name: str, task: str, classes: Sequence[str], focus: Sequence[str]) -> None:
    """Refuse `key` unless validation gives this metric and it can have a value."""
    overall, per_class = MONITORED[task]
    if name not in overall and not of_class(name, per_class, classes):
        allowed = [*overall, *(f"{metric}/<class>" for metric in per_class)]
        raise refused(key, f"no validation metric of {task}", name, allowed)
    if name == "focus_mIoU" and not focus:
        why = "is the mean over report.focus_classes, which names none; name some"
        raise refused(key, why, name)


def of_class(name: str, per_class: Sequence[str], classes: Sequence[str]) -> bool:
    """Whether a name is `<metric>/<class>` of these metrics and classes."""
    metric, slash, of = name.partition("/")
    return bool(slash) and metric in per_class and of in classes

"""The images and boxes of a study as an Ultralytics data set: read from the manifest, never copied, nothing written.

Ultralytics' own reader scans the folders, writes a label cache beside them and repairs JPEG files in place; none of
that happens here, because paths and labels come from the manifest.
"""

import math
import random
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from retrace.compat.ultralytics import OpenDataset
from retrace.data.loading import read_image
from retrace.data.manifest import Manifest
from retrace.documents.manifest import Record
from retrace.seeds import derive


class Samples(OpenDataset):
    """Every random change of a training sample follows from (seed, epoch, index), whoever makes it and when."""

    def __init__(self, manifest: Manifest, ids: Sequence[str], seed: int, **options: Any):
        self._manifest, self._ids, self._seed = manifest, list(ids), seed
        self.epoch = 0
        self.id_of = {str(manifest.image(image_id)): image_id for image_id in ids}
        super().__init__(img_path="", task="detect", **options)

    def get_img_files(self, img_path: Any) -> list[str]:
        """Paths in list order."""
        return [str(self._manifest.image(image_id)) for image_id in self._ids]

    def get_labels(self) -> list[dict[str, Any]]:
        """What Ultralytics reads from label files; crowd regions are left out, as it has no notion of them."""
        return [
            label_of(self._manifest.records[image_id], path)
            for image_id, path in zip(self._ids, self.im_files, strict=True)
        ]

    def build_transforms(self, hyp: Any) -> Any:
        """Mosaics draw from all images. From a buffer of recent ones they would depend on the order of loading."""
        self.cache = "ram"
        return super().build_transforms(hyp)

    def cache_images(self) -> None:
        """Hold all images in memory, at training size."""
        loaded = [self.load_image(index) for index in range(self.ni)]
        self.im_hw0, self.im_hw = [before for _, before, _ in loaded], [after for _, _, after in loaded]
        self.hold([image for image, _, _ in loaded])

    def load_image(self, i: int, rect_mode: bool = True, resize_short: bool = False) -> tuple[np.ndarray, Any, Any]:
        """BGR uint8 with the longer side `imgsz`, (height, width) before and after."""
        held = self.ims[i]
        if held is not None:
            return held.copy(), self.im_hw0[i], self.im_hw[i]
        image = np.ascontiguousarray(read_image(self._manifest, self.id_of[self.im_files[i]])[..., ::-1])
        height, width = image.shape[:2]
        ratio = self.imgsz / max(height, width)
        if ratio != 1:
            size = min(math.ceil(width * ratio), self.imgsz), min(math.ceil(height * ratio), self.imgsz)
            image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        return image, (height, width), image.shape[:2]

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.augment:
            seed = derive(self._seed, "augment", self.epoch, index)
            random.seed(seed)
            np.random.seed(seed % 2**32)
        return super().__getitem__(index)


def label_of(record: Record, path: str) -> dict[str, Any]:
    """One image's boxes as (center x, center y, width, height) in shares of the image, float32 [N, 4]; cls [N, 1]."""
    boxes = [box for box in record.boxes if not box.crowd]
    corners = np.array([box.xywh for box in boxes], dtype=np.float64).reshape(-1, 4)
    centers = np.concatenate([corners[:, :2] + corners[:, 2:] / 2, corners[:, 2:]], axis=1)
    shares = centers / np.array([record.width, record.height] * 2, dtype=np.float64)
    return {
        "im_file": path,
        "shape": (record.height, record.width),
        "cls": np.array([box.label for box in boxes], dtype=np.float32).reshape(-1, 1),
        "bboxes": shares.astype(np.float32),
        "segments": [],
        "keypoints": None,
        "normalized": True,
        "bbox_format": "xywh",
    }

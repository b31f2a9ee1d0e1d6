"""Writers of what label tools export, by the formulas of their documents: rows of (class, kind, numbers) into files."""

import base64
import csv
import io
import json
import zlib
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from tests.support.detection_sets import SIZE, picture

W, H = SIZE


def frame_of(canvas):
    ys, xs = np.nonzero(canvas)
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


def cvat_shape(parent, row, **attributes):
    name, kind, numbers = row
    keys = {"label": name, **{key: str(value) for key, value in attributes.items()}}
    if kind == "polygon":
        keys["points"] = ";".join(f"{x!r},{y!r}" for x, y in numbers)
    elif kind == "box":
        keys |= dict(zip(("xtl", "ytl", "xbr", "ybr"), map(repr, numbers), strict=True))
    else:
        left, top, right, bottom = frame_of(numbers)
        flat = numbers[top:bottom, left:right].ravel()
        runs, value = [0], 0
        for one in flat:  # zeros first
            if one != value:
                runs.append(0)
                value = one
            runs[-1] += 1
        keys |= {"rle": ", ".join(map(str, runs)), "left": str(left), "top": str(top)}
        keys |= {"width": str(right - left), "height": str(bottom - top)}
    return ElementTree.SubElement(parent, kind, keys)


def cvat(root, images, name="annotations.xml"):
    tree = ElementTree.Element("annotations")
    labels = ElementTree.SubElement(ElementTree.SubElement(ElementTree.SubElement(tree, "meta"), "task"), "labels")
    for label in "ab":
        ElementTree.SubElement(ElementTree.SubElement(labels, "label"), "name").text = label
    for number, (image, rows) in enumerate(images.items()):
        picture(root / "images" / image, number)
        node = ElementTree.SubElement(tree, "image", id=str(number), name=image, width=str(W), height=str(H))
        for row in rows:
            cvat_shape(node, row)
    (root / name).write_bytes(ElementTree.tostring(tree))
    return tree


def video(root, tracks, frames=4, **meta):
    tree = ElementTree.Element("annotations")
    task = ElementTree.SubElement(ElementTree.SubElement(tree, "meta"), "task")
    for key, value in {"start_frame": 0, "stop_frame": frames - 1, "frame_filter": "", **meta}.items():
        ElementTree.SubElement(task, key).text = str(value)
    size = ElementTree.SubElement(task, "original_size")
    ElementTree.SubElement(size, "width").text, ElementTree.SubElement(size, "height").text = str(W), str(H)
    for number, (label, boxes) in enumerate(tracks):
        track = ElementTree.SubElement(tree, "track", id=str(number), label=label)
        for frame, outside, box in boxes:
            node = cvat_shape(track, (label, "box", box), frame=frame, outside=int(outside), keyframe=1)
            del node.attrib["label"]
    (root / "annotations.xml").write_bytes(ElementTree.tostring(tree))
    for frame in range(frames):
        picture(root / "images" / f"frame_{frame:06d}.PNG", frame)


def via_region(row):
    name, kind, numbers = row
    if kind == "polygon":
        shape = {"name": "polygon", "all_points_x": [p[0] for p in numbers], "all_points_y": [p[1] for p in numbers]}
    else:
        x0, y0, x1, y1 = numbers
        shape = {"name": "rect", "x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}
    return {"shape_attributes": shape, "region_attributes": {"class": name}}


def via(root, images, form="json", change=lambda region: region):
    for number, name in enumerate(images):
        picture(root / name, number)
    regions = {name: [change(via_region(row)) for row in rows] for name, rows in images.items()}
    if form == "csv":
        with open(root / "via.csv", "w", newline="") as stream:
            writer = csv.writer(stream)
            columns = ("filename", "file_size", "file_attributes", "region_count", "region_id")
            writer.writerow([*columns, "region_shape_attributes", "region_attributes"])
            for name, rows in regions.items():
                for number, row in enumerate(rows or [{"shape_attributes": {}, "region_attributes": {}}]):
                    cells = (json.dumps(row["shape_attributes"]), json.dumps(row["region_attributes"]))
                    writer.writerow([name, 1, "{}", len(rows), number, *cells])
        return
    entries = {f"{name}1": {"filename": name, "size": 1, "regions": rows} for name, rows in regions.items()}
    if form == "version 1":
        entries = {key: {**e, "regions": {str(i): r for i, r in enumerate(e["regions"])}} for key, e in entries.items()}
    content = {"_via_settings": {}, "_via_img_metadata": entries} if form == "project" else entries
    (root / "via.json").write_text(json.dumps(content))


def pack(values):
    """@thi.ng/rle-pack with one length size of 8 bits; runs of equal values and runs of single ones take turns."""
    bits = f"{len(values):032b}" + f"{7:05b}" + f"{7:04b}" * 4
    place = 0
    while place < len(values):
        end = place
        while end < len(values) and end - place < 256 and values[end] == values[place]:
            end += 1
        if end - place > 2:
            bits += "1" + "01" + f"{end - place - 1:08b}" + f"{values[place]:08b}"
        else:
            end = min(place + 3, len(values))
            bits += "0" + "10" + f"{end - place - 1:08b}" + "".join(f"{v:08b}" for v in values[place:end])
        place = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def studio_result(row, number=0):
    name, kind, numbers = row
    base = {"id": f"r{number}", "original_width": W, "original_height": H, "image_rotation": 0}
    if kind == "polygon":
        points = [[x * 100 / W, y * 100 / H] for x, y in numbers]
        return {**base, "type": "polygonlabels", "value": {"points": points, "closed": True, "polygonlabels": [name]}}
    if kind == "box":
        x0, y0, x1, y1 = numbers
        value = {"x": x0 * 100 / W, "y": y0 * 100 / H, "width": (x1 - x0) * 100 / W, "height": (y1 - y0) * 100 / H}
        return {**base, "type": "rectanglelabels", "value": {**value, "rotation": 0, "rectanglelabels": [name]}}
    rgba = np.repeat(numbers.ravel() * 255, 4).tolist()
    return {**base, "type": "brushlabels", "value": {"format": "rle", "rle": pack(rgba), "brushlabels": [name]}}


def studio(root, images, change=lambda task: task):
    tasks = []
    for number, (name, rows) in enumerate(images.items()):
        picture(root / "images" / name, number)
        result = [studio_result(row, i) for i, row in enumerate(rows)]
        data = {"image": f"/data/upload/3/0a1b2c3d-{name}"}
        tasks.append(change({"id": number, "data": data, "annotations": [{"id": 1, "result": result}]}))
    (root / "tasks.json").write_text(json.dumps(tasks))


def supervisely_object(row, mode="1"):
    name, kind, numbers = row
    base = {"classTitle": name, "tags": [], "geometryType": {"box": "rectangle", "mask": "bitmap"}.get(kind, kind)}
    if kind == "mask":
        left, top, right, bottom = (int(value) for value in frame_of(numbers))
        small = Image.fromarray(numbers[top:bottom, left:right] * 255)
        if mode == "RGBA":
            alpha, small = small, Image.new("RGBA", small.size, (9, 9, 9, 0))
            small.putalpha(alpha)
        stream = io.BytesIO()
        (small if mode == "RGBA" else small.convert(mode)).save(stream, "PNG")
        data = base64.b64encode(zlib.compress(stream.getvalue())).decode()
        return {**base, "bitmap": {"data": data, "origin": [left, top]}}
    exterior, interior = numbers
    return {**base, "points": {"exterior": exterior, "interior": interior}}


def supervisely(root, images, mode="1"):
    (root / "meta.json").write_text(json.dumps({"classes": [{"title": "a"}, {"title": "b"}, {"title": "never"}]}))
    (root / "ds0/ann").mkdir(parents=True, exist_ok=True)
    for number, (name, rows) in enumerate(images.items()):
        picture(root / "ds0/img" / name, number)
        objects = [supervisely_object(row, mode) for row in rows]
        content = {"size": {"width": W, "height": H}, "objects": objects, "tags": []}
        (root / "ds0/ann" / f"{name}.json").write_text(json.dumps(content))

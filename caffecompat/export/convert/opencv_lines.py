"""Lines of a program that prepares an image for a model in OpenCV's dnn."""

from __future__ import annotations

from caffecompat.data.preprocessing import Preprocessing

INTERPOLATIONS = {"bilinear": "LINEAR", "bicubic": "CUBIC", "area": "AREA"}


def blob_lines(preprocessing: Preprocessing, folded: bool = False) -> list[str]:
    """Python lines that make ``blob`` of ``image.jpg``.

    Args:
        preprocessing: what the model expects.
        folded: whether mean, scale and channel order are inside of the model, whose input is then
            R, G, B from 0 to 1.
    """
    gray = preprocessing.channel_order == "gray"
    flag = ", cv2.IMREAD_GRAYSCALE" if gray else ""
    lines = ["import cv2", f'image = cv2.imread("image.jpg"{flag})']
    lines += _resizing(preprocessing)
    if preprocessing.crop is not None:
        height, width = preprocessing.crop
        lines.append(f"y, x = (image.shape[0] - {height}) // 2, (image.shape[1] - {width}) // 2")
        lines.append(f"image = image[y : y + {height}, x : x + {width}]")
    return [*lines, _blob(preprocessing, folded)]


def _resizing(preprocessing: Preprocessing) -> list[str]:
    resize = preprocessing.resize
    if resize is None:
        return []
    flag = f"interpolation=cv2.INTER_{INTERPOLATIONS[preprocessing.interpolation]}"
    if isinstance(resize, int):
        return [
            f"factor = {resize} / min(image.shape[:2])",
            "size = [round(factor * side) for side in image.shape[1::-1]]",
            f"image = cv2.resize(image, size, {flag})",
        ]
    height, width = resize
    return [f"image = cv2.resize(image, ({width}, {height}), {flag})"]


def _blob(preprocessing: Preprocessing, folded: bool) -> str:
    if folded:
        swap = preprocessing.channel_order != "gray"
        return f"blob = cv2.dnn.blobFromImage(image, 1 / 255, swapRB={swap})"
    mean = preprocessing.mean
    if len(mean) == 1 and preprocessing.channel_order != "gray":
        mean = mean * 3
    # With swapRB the mean is given in the order R, G, B too.
    numbers = ", ".join(f"{value:.9g}" for value in mean)
    swap = preprocessing.channel_order == "RGB"
    return (
        f"blob = cv2.dnn.blobFromImage(image, {preprocessing.scale:.9g}, "
        f"mean=({numbers}{',' if len(mean) == 1 else ''}), swapRB={swap})"
    )

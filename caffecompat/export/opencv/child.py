"""The process that runs a model in OpenCV; see caffecompat.export.opencv.process.

It is started with a folder, which has ``request.json`` and ``inputs.npz``, and writes
``outputs.npz``. An error of OpenCV is its only output, with exit code 3.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

OPENCV_FAILED = 3


def main(folder: str) -> None:
    """Runs the request in ``folder``."""
    import cv2 as opencv

    # OpenCV's declarations lack what version 4 alone has.
    cv2: Any = opencv
    request = json.loads(Path(folder, "request.json").read_text())
    names = request["outputs"]
    try:
        if "prototxt" in request:
            net = cv2.dnn.readNetFromCaffe(request["prototxt"], request["model"])
            # Fused layers would hide the values between them.
            net.enableFusion(False)
        else:
            net = cv2.dnn.readNetFromONNX(request["model"])
        with np.load(Path(folder, "inputs.npz"), allow_pickle=False) as inputs:
            for index, name in enumerate(request["inputs"]):
                net.setInput(np.ascontiguousarray(inputs[str(index)]), name)
        values = net.forward(names)
    except cv2.error as error:
        sys.stdout.write(str(error).splitlines()[0])
        sys.exit(OPENCV_FAILED)
    # Matrices without elements come back as None.
    arrays = (np.zeros(0, np.float32) if value is None else value for value in values)
    np.savez(Path(folder, "outputs.npz"), *arrays)

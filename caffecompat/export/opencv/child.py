"""The process that runs a model in OpenCV; see caffecompat.export.opencv.process.

It is started with a folder, which has ``request.json`` and ``inputs.npz``, and writes the outputs
as ``0.npy``, ``1.npy`` and so on. An error of OpenCV is its only output, with exit code 3. It may
run in a Python that has neither this package nor its version of numpy, as a script with the folder
as its argument.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

OPENCV_FAILED = 3


def main(folder: str) -> None:
    """Runs the request in ``folder``."""
    try:
        import cv2 as opencv
        import numpy as np
    except ImportError:
        fail("this Python has no OpenCV; install opencv-python-headless")

    # OpenCV's declarations lack what version 4 alone has.
    cv2: Any = opencv
    request = json.loads(Path(folder, "request.json").read_text())
    names = request["outputs"]
    try:
        if "prototxt" in request:
            if not hasattr(cv2.dnn, "readNetFromCaffe"):
                fail(f"OpenCV {cv2.__version__} no longer reads Caffe models; OpenCV 4 does")
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
        fail(str(error).splitlines()[0])
    for index, value in enumerate(values):
        # Matrices without elements come back as None.
        np.save(Path(folder, f"{index}.npy"), np.zeros(0, np.float32) if value is None else value)


def fail(sentence: str) -> NoReturn:
    sys.stdout.write(sentence)
    sys.exit(OPENCV_FAILED)


if __name__ == "__main__":
    main(sys.argv[1])

"""The process that times a model in OpenCV; see caffecompat.export.opencv.repeated.

It needs numpy and OpenCV alone, so that another Python may run it. It answers each line of its
input with one line: ``version`` with the version of OpenCV and ``caffe`` or ``onnx``, which it
reads; ``load`` and JSON with ``loaded``; ``run`` with the seconds of a pass, elapsed and of
processor time.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main() -> None:
    """Answers requests until the input ends."""
    import cv2 as opencv

    cv2: Any = opencv
    net: Any = None
    for line in sys.stdin:
        verb, _, rest = line.strip().partition(" ")
        try:
            if verb == "version":
                reads = "caffe" if hasattr(cv2.dnn, "readNetFromCaffe") else "onnx"
                answer = f"{cv2.__version__} {reads}"
            elif verb == "load":
                net = _loaded(cv2, json.loads(rest))
                answer = "loaded"
            else:
                begun, work = time.perf_counter(), time.process_time()
                net.forward()
                answer = f"{time.perf_counter() - begun} {time.process_time() - work}"
        except cv2.error as error:
            answer = f"error {str(error).splitlines()[0]}"
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


def _loaded(cv2: Any, request: dict[str, Any]) -> Any:
    import numpy as np

    cv2.setNumThreads(request["threads"])
    if "prototxt" in request:
        net = cv2.dnn.readNetFromCaffe(request["prototxt"], request["model"])
    else:
        net = cv2.dnn.readNetFromONNX(request["model"])
    generator = np.random.default_rng(1)
    for name, shape in request["inputs"].items():
        net.setInput(generator.standard_normal(shape).astype(np.float32), name)
    return net


if __name__ == "__main__":
    main()

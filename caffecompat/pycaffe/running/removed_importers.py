"""Functions by which other programs read Caffe models, and which they have no more."""

from __future__ import annotations

import ast

_CONVERTED = "'caffecompat convert net.caffemodel {} --model deploy.prototxt{}' writes"
_FOR_OPENCV = (
    "cv2.dnn.readNetFromONNX('net.onnx') and keep the other lines; "
    + _CONVERTED.format("net.onnx", " --for opencv5")
    + " that file, with an --output BLOB for each blob that forward() is asked for"
)
_FOR_CORE_ML = (
    "coremltools.convert(torch.export.load('net.pt2')); "
    + _CONVERTED.format("net.pt2", "")
    + " that file"
)
_FOR_TENSORRT = (
    "tensorrt.OnnxParser, which reads net.onnx; " + _CONVERTED.format("net.onnx", "") + " that file"
)
# Name in full -> what to write.
IMPORTERS = {
    "cv2.dnn.readNetFromCaffe": _FOR_OPENCV,
    "coremltools.converters.caffe": _FOR_CORE_ML,
    "tensorrt.CaffeParser": _FOR_TENSORRT,
    "tensorrt.parsers.caffeparser": _FOR_TENSORRT,
}
READ_NET = f"this OpenCV reads no Caffe models any more: write {_FOR_OPENCV}"
# OpenCV's own words, of cv2.dnn.readNet.
OPENCV_SAYS = "Caffe importer has been removed"


def reads_caffemodel(call: ast.Call, name: str) -> bool:
    """Whether a call of the function with a name in full is OpenCV's, for a caffemodel."""
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    return name == "cv2.dnn.readNet" and any(
        isinstance(one, ast.Constant) and str(one.value).endswith(".caffemodel") for one in given
    )

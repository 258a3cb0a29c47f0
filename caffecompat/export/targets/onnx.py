"""ONNX files."""

from __future__ import annotations

import json
from pathlib import Path

from caffecompat.errors import ExportError
from caffecompat.export.model import CaffeModel
from caffecompat.export.onnx_graph.build import build_onnx_graph, check_known
from caffecompat.export.onnx_graph.file import import_onnx, write_onnx
from caffecompat.export.outputs import check_outputs
from caffecompat.export.targets.base import Target, targets
from caffecompat.net import Net


@targets.register("onnx")
class Onnx(Target):
    """ONNX: one operator, or a few, for each layer, under Caffe's names.

    - Inputs and outputs have the names of the blobs, initializers are called ``conv1_1.weight``.
      Nodes have the names of the layers, and Caffe's types as ``doc_string``.
    - The batch size is free where the net allows it; so are height and width of fully
      convolutional nets.
    - ``metadata_props``: ``preprocessing`` (JSON, see
      :meth:`caffecompat.data.preprocessing.Preprocessing.to_json`), ``layers`` (JSON: names and
      types), ``preprocessing_in_graph`` where the graph does it.
    """

    suffixes = (".onnx",)
    engine = "onnxruntime"
    holds_preprocessing = True
    folds_preprocessing = True
    programs = ("opencv5",)

    def refuse(self, model: CaffeModel) -> None:
        import_onnx()
        net = Net(model.definition, shapes_only=True)
        check_known(model, net)
        check_outputs(net, model.path or net.name)
        if self.options.fold_preprocessing and model.preprocessing is None:
            raise ExportError(
                f"{model.path}: its preprocessing is unknown, so it cannot become part of the "
                "graph; name it, for example with --preprocessing vgg"
            )

    def write(self, model: CaffeModel, path: Path) -> None:
        self.refuse(model)
        fold = model.preprocessing if self.options.fold_preprocessing else None
        graph, _ = build_onnx_graph(model.net(), fold, self.options.program)
        metadata = {"layers": json.dumps(dict(graph.layers), ensure_ascii=False)}
        if model.preprocessing is not None:
            metadata["preprocessing"] = model.preprocessing.to_json()
        if fold is not None:
            metadata["preprocessing_in_graph"] = "input is RGB (or gray) from 0 to 1"
        write_onnx(graph, path, metadata)

    def loading_lines(self, model: CaffeModel, path: Path) -> list[str]:
        if self.options.program == "opencv5":
            return ["import cv2", f"net = cv2.dnn.readNetFromONNX({str(path)!r})"]
        return ["import onnxruntime", f"session = onnxruntime.InferenceSession({str(path)!r})"]

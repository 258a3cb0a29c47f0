"""MatConvNet's MAT files as Caffe models."""

from __future__ import annotations

from pathlib import Path

from caffecompat.export.matconvnet.layers import read_layers
from caffecompat.export.matconvnet.mat_file import SIGNATURE, read_mat
from caffecompat.export.matconvnet.to_caffe import to_caffe
from caffecompat.export.model import CaffeModel
from caffecompat.export.source import ModelFile, model_files


@model_files.register("matconvnet")
class MatConvNet(ModelFile):
    """``.mat``: SimpleNN and DagNN, alone or as the variable ``net``, of any beta."""

    def sniff(self, head: bytes, path: Path) -> bool:
        return head.startswith(SIGNATURE)

    def read(self, path: Path) -> CaffeModel:
        variables = read_mat(path, self.max_bytes)
        net = variables.get("net")
        if isinstance(net, list) and net and isinstance(net[0], dict):
            variables = net[0]
        return to_caffe(read_layers(variables, path), variables, path)

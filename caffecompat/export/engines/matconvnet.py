"""A MAT file that was written from a net, read back and run beside that net."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from caffecompat.errors import ExportError
from caffecompat.export.engines.base import Arrays, Engine, EngineOptions, NotComparable, engines
from caffecompat.export.engines.caffe_net import CaffeNet


@engines.register("matconvnet")
class MatConvNetEngine(Engine):
    """The Caffe model that the file means, in this package, with the names of the other engine.

    MatConvNet has other names of blobs, fully connected layers as convolutions, and R, G, B images.
    """

    needs_other = True

    def __init__(self, path: Path, options: EngineOptions) -> None:
        other = options.other
        if not isinstance(other, CaffeNet):
            raise NotComparable("it is compared with the net that it was written from only")
        try:
            self._own = CaffeNet(path, EngineOptions(max_bytes=options.max_bytes))
        except ExportError as error:
            raise NotComparable(str(error)) from error
        self._outputs = _outputs(other, self._own)
        self._shapes = {name: tuple(other.net.blobs[name].shape)[1:] for name in self._outputs}
        if not self._outputs or len(self._own.inputs) != len(other.inputs):
            raise NotComparable("its inputs and outputs cannot be told by their names")
        # The file does not tell the batch.
        shapes = [(0, *shape[1:]) for shape in self._own.inputs.values()]
        self.inputs = dict(zip(other.inputs, shapes, strict=True))
        before = other.model.preprocessing
        self._turned = before is not None and before.channel_order == "RGB"
        # Inputs are as the net takes them; the file multiplies by the scale itself.
        self._scale = np.float32(1 if before is None else before.scale)

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        given = [inputs[name] for name in self.inputs]
        if self._turned:
            given = [np.ascontiguousarray(x[:, ::-1]) if x.ndim == 4 else x for x in given]
        if self._scale != 1:
            given = [x / self._scale if x.ndim == 4 else x for x in given]
        found = self._own.run(dict(zip(self._own.inputs, given, strict=True)))
        return {
            name: found[own].reshape(-1, *self._shapes[name]) for name, own in self._outputs.items()
        }


def _outputs(net: CaffeNet, own: CaffeNet) -> dict[str, str]:
    """For outputs of the net those that were read back, which are called after layers."""
    layers = {top: built for built in net.net.layers for top in built.tops}
    last = {top.blob: top for top in layers}
    found = {}
    for name in net.net.outputs:
        built = layers[last[name]]
        while built.name.replace("-", "_") not in own.net.outputs and built.bottoms:
            built = layers[built.bottoms[0]]
        if built.bottoms:
            found[name] = built.name.replace("-", "_")
    return found

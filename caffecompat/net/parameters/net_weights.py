"""The weights of a net: loading, saving, sharing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from caffecompat.graph import Graph
from caffecompat.layers import BuildOptions
from caffecompat.net.blobs.array_view import BlobParameter, BlobStatistic, with_data
from caffecompat.net.blobs.blob import Named
from caffecompat.net.build import BuiltLayer
from caffecompat.net.parameters import loading
from caffecompat.net.parameters.initial_values import Learnable, learnables
from caffecompat.net.parameters.state_dict_names import torch_naming
from caffecompat.weights import Weights, load_weights, save_weights


class NetWeights(nn.Module):
    """What a :class:`caffecompat.Net` does with its weights.

    Attributes:
        graph: of the net.
        layers: of the net, built.
    """

    graph: Graph
    layers: list[BuiltLayer]
    _options: BuildOptions

    @property
    def params(self) -> Mapping[str, list[BlobParameter | BlobStatistic]]:
        """The parameters of each layer that has any, in Caffe's order, with ``data`` and ``diff``.

        ``net.params["fc8"][0].data[...] = array`` writes a weight.
        """
        with_parameters = [b for b in self.layers if b.module and b.module.layer.specs]
        modules = {b.name: b.module for b in with_parameters if b.module}
        return Named(
            "layer with parameters",
            list(modules),
            lambda name: [with_data(blob) for blob in modules[name].blobs()],
        )

    @property
    def learnable(self) -> list[Learnable]:
        """Every parameter blob once, in the order of Caffe's solver states."""
        return learnables(self.layers)

    def load_weights(
        self,
        weights: str | os.PathLike[str] | Weights,
        *,
        layers: Sequence[str] | None = None,
        on_mismatch: str = "error",
        lenient: bool | None = None,
        max_bytes: int | None = None,
    ) -> loading.LoadReport:
        """Copies weights in by layer name.

        Layers that the file lacks keep their values, layers that the net lacks are ignored; the
        report names both.

        Args:
            weights: a file, or weights in memory.
            layers: names of the layers to load, or patterns with ``*``; None means all.
            on_mismatch: what to do with a layer of other blobs or shapes. ``"error"`` copies
                nothing at all, ``"skip"`` lets the layer keep the values it has, ``"reinit"``
                fills it anew as in a new net of this seed.
            lenient: accept weights that have nothing for any layer of the net, instead of
                refusing them; by default as the net was built.
            max_bytes: see :func:`caffecompat.weights.load_weights`; by default as the net was
                built.

        Raises:
            FileProblem, FormatError: the file is missing or no weight file.
            WeightsError: a layer does not fit and ``on_mismatch`` is "error", or ``layers`` names
                one that is not in net and file, or no layer at all was loaded; then nothing was
                copied.
        """
        if isinstance(weights, Weights):
            origin, private = weights.path or "weights", False
        else:
            origin, private = os.fspath(weights), True
            limit = self._options.max_bytes if max_bytes is None else max_bytes
            weights = load_weights(weights, max_bytes=limit)
        return loading.load(
            self.layers,
            weights,
            origin,
            only=layers,
            on_mismatch=on_mismatch,
            private=private,
            lenient=self._options.lenient if lenient is None else lenient,
        )

    def copy_from(self, path: str | os.PathLike[str]) -> loading.LoadReport:
        """:meth:`load_weights` of a file, by pycaffe's name."""
        return self.load_weights(path)

    def save(self, path: str | os.PathLike[str], *, diffs: bool = False) -> None:
        """Writes the weights (with ``diffs`` their gradients too); the suffix says the format."""
        save_weights(self.to_weights(diffs), path, naming=torch_naming())

    def to_weights(self, diffs: bool = False) -> Weights:
        """The net's parameters (with ``diffs`` their gradients too) as arrays on the CPU."""
        return loading.collect(self.layers, self.graph.name, diffs)

    def share_weights(self, other: NetWeights) -> list[str]:
        """Uses the parameters of ``other`` wherever layer names agree.

        Returns:
            Names of the layers of ``other`` that this net does not have.
        """
        return loading.share(self.layers, other._modules_by_layer())

    def _modules_by_layer(self) -> dict[str, Any]:
        return {b.name: b.module for b in reversed(self.layers) if b.module is not None}

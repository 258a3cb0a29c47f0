"""The weights of a net: loading, saving, sharing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from caffecompat.errors import WeightsError
from caffecompat.layers import BuildOptions
from caffecompat.net.blobs.array_view import BlobParameter, BlobStatistic, with_data
from caffecompat.net.blobs.blob import NamedMapping
from caffecompat.net.parameters import loading
from caffecompat.net.parameters.initial_values import Learnable, learnables
from caffecompat.net.parameters.layer_settings import add_settings
from caffecompat.net.parameters.load_report import LoadReport
from caffecompat.net.parameters.state_dict_names import torch_naming
from caffecompat.net.structure import NetStructure
from caffecompat.weights import Weights, load_weights, save_weights


class NetWeights(NetStructure, nn.Module):
    """The methods of :class:`caffecompat.Net` for its weights."""

    _options: BuildOptions

    @property
    def params(self) -> Mapping[str, list[BlobParameter | BlobStatistic]]:
        """The parameters of each layer that has any, in Caffe's order, with ``data`` and ``diff``.

        ``net.params["fc8"][0].data[...] = array`` writes a weight.
        """
        with_parameters = [b for b in self.layers if b.module and b.module.layer.specs]
        modules = {b.name: b.module for b in with_parameters if b.module}
        return NamedMapping(
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
    ) -> LoadReport:
        """Copies weights into the net by layer name.

        Layers that are not in the file keep their values, layers that are not in the net are
        ignored; the report names both.

        Args:
            weights: a file, or weights in memory.
            layers: names of the layers to load, or patterns with ``*``; None means all.
            on_mismatch: the treatment of layers with other blobs or shapes. ``"error"`` raises an
                error and copies nothing, ``"skip"`` keeps the layer's values, ``"reinit"`` gives
                it the values of a new net with this seed.
            lenient: accept weights that match no layer of the net; the default is the net's option.
            max_bytes: see :func:`caffecompat.weights.load_weights`; the default is the net's
                option.

        Raises:
            FileProblem, FormatError: the file is missing or is not a weight file.
            WeightsError: a layer does not fit and ``on_mismatch`` is "error", or ``layers`` names
                one that is not in both net and file, or no layer matches. Nothing is copied.
        """
        if isinstance(weights, Weights):
            origin, private = weights.path or "weights", False
        elif not isinstance(weights, (str, os.PathLike)):
            raise WeightsError(
                f"weights are a {type(weights).__name__}, expected the path of a file, or the "
                "Weights that caffecompat.load_weights returns; a state dict is for load_state_dict"
            )
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

    def copy_from(self, path: str | os.PathLike[str]) -> LoadReport:
        """:meth:`load_weights` with pycaffe's name."""
        return self.load_weights(path)

    def save(self, path: str | os.PathLike[str], *, diffs: bool = False) -> None:
        """Writes the weights (and with ``diffs`` their gradients) in the format of the suffix."""
        save_weights(self.to_weights(diffs, settings=True), path, naming=torch_naming())

    def to_weights(self, diffs: bool = False, *, settings: bool = False) -> Weights:
        """The net's parameters as arrays on the CPU.

        Args:
            diffs: with their gradients.
            settings: with the layers' other settings, which a caffemodel stores beside them.
        """
        weights = loading.collect(self.layers, self.graph.name, diffs)
        if settings:
            add_settings(weights, self.layers)
        return weights

    def share_weights(self, other: NetWeights) -> list[str]:
        """Uses the parameters of ``other`` wherever layer names agree.

        Returns:
            Names of the layers of ``other`` that this net does not have.
        """
        return loading.share(self.layers, other._modules_by_layer())

    def _modules_by_layer(self) -> dict[str, Any]:
        return {b.name: b.module for b in reversed(self.layers) if b.module is not None}

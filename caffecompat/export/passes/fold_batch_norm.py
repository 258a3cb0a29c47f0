"""BatchNorm and Scale layers folded into the weights of the layer before them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from caffecompat.errors import ExportError
from caffecompat.export.channel_affine import SETTINGS, normalisation, scaled, with_affine
from caffecompat.export.graph_pass import graph_passes
from caffecompat.export.model import CaffeModel
from caffecompat.export.wiring import Step, Wiring, net_of
from caffecompat.graph import Version
from caffecompat.net import Net
from caffecompat.proto.fork_fields import effective_fields
from caffecompat.weights import LayerWeights, Weights

HELP = "fold BatchNorm and Scale into the weights of the Convolution or InnerProduct before them"

BATCH_NORM, SCALE = "BatchNorm", "Scale"
# Layers along whose axis 1 BatchNorm works.
CHANNEL_AXIS = 1


@graph_passes.register("fold-batch-norm")
def fold_batch_norm(model: CaffeModel) -> CaffeModel:
    """The model with each BatchNorm, and a Scale after it, in the weight and bias before them.

    With a = scale / sqrt(variance / factor + eps), the weight of each output channel is multiplied
    by a, and the bias becomes (bias - mean / factor) a + shift. Computed in double precision. A
    layer without a bias gets one. Outputs keep their names; they differ by rounding. A BatchNorm
    stays, with a note that says why, where no Convolution, Deconvolution or InnerProduct makes its
    bottom, where another layer reads what lies between, or where the weight is shared. The result
    has the layers of phase TEST.

    Raises:
        NetError, WeightsError: the net cannot be built, or the weights do not fit.
        ExportError: a layer that would be folded has no values in the weights.
    """
    net = Net(model.definition)
    if not any(built.type == BATCH_NORM for built in net.layers):
        return model
    missing = net.load_weights(model.weights).missing
    without = [b for b in net.layers if b.name in missing and not b.node.message.blobs]
    if without:
        raise ExportError(
            "\n".join(f"{b.place}: no values in {model.path or 'the weights'}" for b in without)
        )
    folding = _Folding(net)
    folding.run()
    message = net_of(model.definition.message, folding.wiring.layers())
    notes = [*model.definition.notes, *folding.notes]
    definition = replace(model.definition, message=message, notes=notes)
    return replace(model, definition=definition, weights=folding.weights(model.weights))


class _Folding:
    """Goes through the layers in order and keeps the new values of those folded into."""

    def __init__(self, net: Net) -> None:
        self.wiring = Wiring(net.graph)
        self.notes: list[str] = []
        self._net = net
        self._values = {
            name: [blob.detach().numpy().astype(np.float64) for blob in blobs]
            for name, blobs in net.params.items()
        }
        self._folded: set[str] = set()
        self._gone: set[str] = set()
        self._shared = Counter(
            param.name for step in self.wiring.steps for param in step.message.param if param.name
        )

    def run(self) -> None:
        for step in list(self.wiring.steps):
            if step.type != BATCH_NORM:
                continue
            target = self.wiring.producer(step.bottoms[0])
            reason = self._reason_to_keep(step, target)
            if reason:
                self.notes.append(f"{step.place}: stays, {reason}")
            elif target is not None:
                self._fold(step, target)

    def weights(self, given: Weights) -> Weights:
        """``given`` with the new values, and without the layers that are gone."""
        layers = [layer for layer in given.layers if layer.name not in self._gone | self._folded]
        for step in self.wiring.steps:
            if step.name in self._folded:
                blobs = [blob.astype(np.float32) for blob in self._values[step.name]]
                layers.append(LayerWeights(step.name, step.type, blobs))
        order = {step.name: i for i, step in enumerate(self.wiring.steps)}
        layers.sort(key=lambda layer: order.get(layer.name, len(order)))
        return Weights(layers, given.net_name, given.path, given.format)

    def _reason_to_keep(self, step: Step, target: Step | None) -> str:
        """Why a BatchNorm cannot be folded; empty if it can."""
        p = step.message.batch_norm_param
        if effective_fields(step.message):
            return "because it has settings of a fork"
        if p.HasField("use_global_stats") and not p.use_global_stats:
            return "because it uses the statistics of each batch (use_global_stats: false)"
        if target is None or target.type not in SETTINGS:
            found = f"layer {target.name!r} ({target.type})" if target else "nothing"
            return f"because {found} makes its bottom, into which nothing can be folded"
        who = f"layer {target.name!r} ({target.type})"
        if len(target.bottoms) > 1:
            return f"because {who} has several bottoms with one weight"
        if not self._along_channels(target):
            return f"because {who} works along another axis"
        if any(self._shared[param.name] > 1 for param in target.message.param):
            return f"because {who} shares its parameters with another layer"
        others = [r for r in self.wiring.readers(step.bottoms[0]) if r is not step]
        if others:
            return f"because layer {others[0].name!r} ({others[0].type}) reads its bottom too"
        return ""

    def _along_channels(self, step: Step) -> bool:
        axis = getattr(step.message, SETTINGS[step.type]).axis
        axes = len(self._net.shape_of(step.bottoms[0]))
        return bool(axis % axes == CHANNEL_AXIS)

    def _fold(self, step: Step, target: Step) -> None:
        affine = normalisation(self._values[step.name], step.message.batch_norm_param.eps)
        last, folded = step, [step]
        scale = self._scale_after(step)
        if scale is not None:
            affine = scaled(affine, self._values[scale.name])
            last = scale
            folded.append(scale)
        self._values[target.name] = with_affine(target.message, self._values[target.name], affine)
        target.message.ClearField("blobs")
        getattr(target.message, SETTINGS[target.type]).ClearField("bias_term")
        target.tops = last.tops
        self._folded.add(target.name)
        for gone in folded:
            self.wiring.steps.remove(gone)
            self._gone.add(gone.name)
        names = " and ".join(f"layer {s.name!r} ({s.type})" for s in folded)
        self.notes.append(f"{target.place}: {names} folded into it")

    def _scale_after(self, step: Step) -> Step | None:
        """The Scale that alone reads the BatchNorm's top, with one factor per channel."""
        value: Version = step.tops[0]
        readers = self.wiring.readers(value)
        if value in self.wiring.outputs or len(readers) != 1 or readers[0].type != SCALE:
            return None
        scale = readers[0]
        p, axes = scale.message.scale_param, len(self._net.shape_of(value))
        along = p.num_axes == 1 or (p.num_axes == -1 and axes == CHANNEL_AXIS + 1)
        fits = len(scale.bottoms) == 1 and along and p.axis % axes == CHANNEL_AXIS
        return scale if fits else None

"""What a pycaffe net consists of: blobs, parameters, layers, names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from caffecompat.errors import BlobError, suggestion
from caffecompat.layers.python import Python
from caffecompat.net import Net as TorchNet
from caffecompat.pycaffe.blob import Blob, BlobVec
from caffecompat.pycaffe.errors import OldNameError, refuse_copy
from caffecompat.pycaffe.execution.blob_memory import Memory, Views
from caffecompat.pycaffe.execution.layer_step import hidden_tops
from caffecompat.pycaffe.execution.layered_passes import LayeredPasses
from caffecompat.pycaffe.execution.parameter_blobs import parameter_blobs
from caffecompat.pycaffe.nets.layer import BuiltInLayer
from caffecompat.pycaffe.nets.mappings import Ordered

Value = TypeVar("Value")


# Methods of nets in 2014 -> what to write.
_OLD_NAMES = {
    "set_phase_train": "give the phase when the net is built, caffe.Net(file, caffe.TRAIN)",
    "set_phase_test": "give the phase when the net is built, caffe.Net(file, caffe.TEST)",
    "set_mode_cpu": "call caffe.set_mode_cpu() before the net is built",
    "set_mode_gpu": "call caffe.set_mode_gpu() before the net is built",
    "set_device": "call caffe.set_device(n) before the net is built",
    **dict.fromkeys(
        ("set_mean", "set_input_scale", "set_raw_scale", "set_channel_swap", "preprocess"),
        "it is a method of caffe.io.Transformer",
    ),
}
# Methods that the Caffe of the Deep Visualization Toolbox has.
_NAMES_OF_FORKS = {
    "backward_from_layer": (
        "net.blobs[layer].diff[...] = diff, then net.backward(start=layer), which returns the "
        "gradients of the inputs"
    ),
    "deconv_from_layer": (
        "set the diffs below zero to 0 at each ReLU by hand, between calls of "
        "net.backward(start=layer, end=layer_before)"
    ),
}


class Named(Ordered[Value]):
    """Values by name, in the order of the net; an unknown name is a KeyError that suggests one."""

    kind = "blob"

    def __missing__(self, name: str) -> Value:
        raise BlobError(f"no {self.kind} {name!r} in this net{suggestion(str(name), self)}")


def _shared_by_splits(net: TorchNet, data: Mapping[str, Memory]) -> dict[str, Memory]:
    """The data of the tops of automatic splits: as in Caffe the memory of their bottom.

    A pass that ends at a layer is thus seen by one that starts behind the split. A blob that a
    later layer overwrites is left out: the readers of the split see the value from before.
    """
    last = {top.blob: top for built in net.layers for top in built.tops}
    return {
        top.blob: data[built.bottoms[0].blob]
        for built in net.layers
        if built.node.automatic and built.bottoms[0] == last[built.bottoms[0].blob]
        for top in built.tops
    }


class NamedParameters(Named[BlobVec]):
    kind = "layer with parameters"


class NetStructure:
    """The part of :class:`caffecompat.pycaffe.Net` that says what the net consists of.

    Attributes:
        torch_net: the net as :class:`caffecompat.Net`, a torch module with the same parameters.
    """

    torch_net: TorchNet
    # pycaffe's nets have these names too, once a script has asked for layer_dict and the like.
    _layer_dict: Ordered[Any]
    _input_list: list[str]
    _output_list: list[str]
    __reduce_ex__ = refuse_copy

    def _use(self, net: TorchNet) -> None:
        self.torch_net = net
        self._views = views = Views(net.device)
        weights = net.loss_weights
        shapes = {name: blob.shape for name, blob in net.blobs.items()}
        data = {k: Memory(f"blob {k!r}", shape, views, net.device) for k, shape in shapes.items()}
        data.update(_shared_by_splits(net, data))
        diffs = {
            k: Memory(f"diff of blob {k!r}", shape, views, net.device, weights.get(k, 0.0))
            for k, shape in shapes.items()
        }
        self._blobs_by_name = Named({k: Blob(f"blob {k!r}", data[k], diffs[k]) for k in shapes})
        self._parameters = parameter_blobs(net, views)
        self._names = [built.name for built in net.layers]
        pairs = zip(self._names, self._parameters, strict=True)
        self._params = NamedParameters({name: BlobVec(blobs) for name, blobs in pairs if blobs})
        self._layer_list = [
            built.layer.user
            if isinstance(built.layer, Python)
            else BuiltInLayer(built, self._parameters[i])
            for i, built in enumerate(net.layers)
        ]
        self._layer_dict = Ordered(zip(self._names, self._layer_list, strict=True))
        self._input_list, self._output_list = net.inputs, net.outputs
        for k, weight in hidden_tops(net).items():
            data[k] = Memory(f"blob {k!r}", (), views, net.device)
            diffs[k] = Memory(f"diff of blob {k!r}", (), views, net.device, weight)
        self._passes = LayeredPasses(net.passes, data, diffs, views)

    def __getattr__(self, name: str) -> Any:
        """Only for names that do not exist.

        Raises:
            OldNameError (an AttributeError): what to write for methods that pycaffe had in 2014, or
                that a fork's has.
        """
        if name in _OLD_NAMES:
            raise OldNameError(
                f"nets have no {name}() since Caffe's release candidate 2: {_OLD_NAMES[name]}"
            )
        if name in _NAMES_OF_FORKS:
            raise OldNameError(
                f"{name}() is of the Deep Visualization Toolbox's Caffe; write in its place: "
                f"{_NAMES_OF_FORKS[name]}"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # Structure

    @property
    def blobs(self) -> Named[Blob]:
        """All blobs by name in order of creation, those of automatic splits included."""
        return self._blobs_by_name

    @property
    def params(self) -> NamedParameters:
        """The parameters of each layer that has any, by layer name."""
        return self._params

    @property
    def layers(self) -> list[Any]:
        """The layers: ``type`` and ``blobs`` of each; of a Python layer, the user's object."""
        return list(self._layer_list)

    @property
    def layer_dict(self) -> Ordered[Any]:
        """The layers by name."""
        return self._layer_dict

    @property
    def inputs(self) -> list[str]:
        """Names of the blobs of Input layers."""
        return self._input_list

    @property
    def outputs(self) -> list[str]:
        """Names of the blobs that no layer reads, in alphabetical order."""
        return self._output_list

    @property
    def top_names(self) -> Ordered[list[str]]:
        """Names of the tops of each layer, by layer name."""
        return Ordered((b.name, [t.blob for t in b.tops]) for b in self.torch_net.layers)

    @property
    def bottom_names(self) -> Ordered[list[str]]:
        """Names of the bottoms of each layer, by layer name."""
        return Ordered((b.name, [t.blob for t in b.bottoms]) for b in self.torch_net.layers)

    @property
    def blob_loss_weights(self) -> Ordered[float]:
        """The loss weight of each blob, mostly 0."""
        weights = self.torch_net.loss_weights
        return Ordered((name, weights.get(name, 0.0)) for name in self.blobs)

    # Private names that scripts use

    @property
    def _layer_names(self) -> list[str]:
        return list(self._names)

    @property
    def _blob_names(self) -> list[str]:
        return list(self.blobs)

    @property
    def _blobs(self) -> list[Blob]:
        return list(self.blobs.values())

    @property
    def _inputs(self) -> list[int]:
        return self._ids(self.inputs)

    @property
    def _outputs(self) -> list[int]:
        return self._ids(self.outputs)

    @property
    def _blob_loss_weights(self) -> list[float]:
        return list(self.blob_loss_weights.values())

    def _bottom_ids(self, layer: int) -> list[int]:
        return self._ids([bottom.blob for bottom in self.torch_net.layers[layer].bottoms])

    def _top_ids(self, layer: int) -> list[int]:
        return self._ids([top.blob for top in self.torch_net.layers[layer].tops])

    def _ids(self, names: Sequence[str]) -> list[int]:
        known = self._blob_names
        return [known.index(name) for name in names]

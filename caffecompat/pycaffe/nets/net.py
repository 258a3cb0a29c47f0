"""Net: pycaffe's interface of a net."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from caffecompat.errors import suggestion
from caffecompat.layers import BuildOptions
from caffecompat.net import Net as TorchNet
from caffecompat.pycaffe.errors import ArgumentError, CallError, LayerNameError, pycaffe_errors
from caffecompat.pycaffe.execution.blob_memory import Views
from caffecompat.pycaffe.execution.parameter_blobs import clear_diffs, share_data, take_diffs
from caffecompat.pycaffe.mode import current_device, next_seed
from caffecompat.pycaffe.nets.batches import Arrays, batches, forward_all, forward_backward_all
from caffecompat.pycaffe.nets.mappings import Outputs
from caffecompat.pycaffe.nets.memory_arrays import set_memory_data
from caffecompat.pycaffe.nets.net_arguments import net_arguments
from caffecompat.pycaffe.nets.net_structure import NetStructure
from caffecompat.reporting.glog import LOGGER
from caffecompat.weights import Weights, load_weights, save_weights


class Net(NetStructure):
    """A net with pycaffe's interface; see ``docs/pycaffe.md`` for differences from pycaffe.

    ``Net(network_file, phase, level=0, stages=None, weights=None)``, or in the old order
    ``Net(network_file, weights, phase)``. All arguments can be given by name. The net runs on the
    device that ``set_mode_cpu()`` or ``set_mode_gpu()`` chose, and its Python layers run.

    Raises:
        ArgumentError: no phase is given, or an argument is unknown.
        FileError (a RuntimeError): a file is missing or cannot be read.
        TextError, NetError, WeightsError: as :class:`caffecompat.Net`.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        given = net_arguments(arguments, keywords)
        options = BuildOptions(
            seed=next_seed(), level=given.level, stages=given.stages, allow_python=True
        )
        with pycaffe_errors():
            net = TorchNet(
                given.network_file, phase=given.phase, device=current_device(), options=options
            )
        self._use(net)
        if given.weights is not None:
            self.copy_from(given.weights)

    @classmethod
    def of(cls, net: TorchNet) -> Net:
        """The interface of a net that is built already, whose passes it then runs."""
        self = cls.__new__(cls)
        self._use(net)
        net.runner = self._passes.run
        return self

    # Passes

    def forward(
        self,
        blobs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **inputs: Any,
    ) -> Arrays:
        """Runs the layers from ``start`` to ``end``, by default all.

        Args:
            blobs: names of further blobs to return.
            start, end: names of layers.
            inputs: the values of all inputs by name, with as many rows as the blobs have.

        Returns:
            The outputs of the net, or the tops of ``end``, by name: the ``data`` of the blobs,
            which the next pass changes.

        Raises:
            CallError: ``inputs`` are not all inputs of the net, or have another batch size.
            LayerNameError (a ValueError), BlobError (a KeyError): no such layer or blob.
        """
        first, last = self._index(start, 0), self._index(end, len(self._layer_list) - 1)
        wanted = [*(self.outputs if end is None else self.top_names[end]), *(blobs or ())]
        found = {name: self.blobs[name] for name in wanted}
        if inputs:
            self._check_names("inputs", inputs, self.inputs)
            for name, value in inputs.items():
                self._check_rows(name, value)
                self.blobs[name].data[...] = value
        with pycaffe_errors():
            self._passes.forward(first, last)
        return Outputs({name: blob.data for name, blob in found.items()})

    def backward(
        self,
        diffs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **tops: Any,
    ) -> Arrays:
        """Runs the layers from ``start`` back to ``end``, by default all.

        The gradients of the parameters add up until :meth:`clear_param_diffs`.

        Args:
            diffs: names of further blobs whose gradients are returned.
            start, end: names of layers, ``start`` the later one.
            tops: the gradients of all outputs by name, with as many rows as the blobs have.

        Returns:
            The gradients of the inputs, or of the bottoms of ``end``, by name.

        Raises:
            CallError: ``tops`` are not all outputs of the net, or have another batch size.
            LayerNameError (a ValueError), BlobError (a KeyError): no such layer or blob.
        """
        first, last = self._index(start, len(self._layer_list) - 1), self._index(end, 0)
        wanted = [*(self.inputs if end is None else self.bottom_names[end]), *(diffs or ())]
        found = {name: self.blobs[name] for name in wanted}
        if tops:
            self._check_names("outputs", tops, self.outputs)
            for name, value in tops.items():
                self._check_rows(name, value)
                self.blobs[name].diff[...] = value
        self._views.use_diffs()
        with pycaffe_errors():
            self._passes.backward(first, last)
        return Outputs({name: blob.diff for name, blob in found.items()})

    def _index(self, layer: str | None, default: int) -> int:
        if layer is None:
            return default
        names = self._layer_names
        if layer not in names:
            raise LayerNameError(f"no layer {layer!r} in this net{suggestion(str(layer), names)}")
        return names.index(layer)

    def _check_names(self, what: str, given: Mapping[str, Any], expected: Sequence[str]) -> None:
        if set(given) != set(expected):
            raise CallError(
                f"values are given for {', '.join(sorted(given))}; give them for all {what} of the "
                f"net and nothing else: {', '.join(expected) or 'it has none'}"
            )

    def _check_rows(self, name: str, value: Any) -> None:
        shape = self.blobs[name].shape
        if shape and (not len(value.shape) or value.shape[0] != shape[0]):
            raise CallError(
                f"blob {name!r} has a batch of {shape[0]}, the values are of shape "
                f"{tuple(value.shape)}; use net.blobs[{name!r}].reshape(...) or forward_all(...)"
            )

    def forward_all(self, blobs: Sequence[str] | None = None, **inputs: Any) -> Arrays:
        """Runs any number of samples, in batches; returns arrays with a row for each sample.

        Outputs without a row for each sample, like losses, have one value for each batch.
        """
        return forward_all(self, blobs or (), inputs)

    def forward_backward_all(
        self,
        blobs: Sequence[str] | None = None,
        diffs: Sequence[str] | None = None,
        **arrays: Any,
    ) -> tuple[Arrays, Arrays]:
        """Runs any number of samples forward and backward, in batches.

        Args:
            blobs, diffs: further blobs whose data or gradients are returned.
            arrays: values of the inputs and gradients of the outputs.

        Returns:
            Data of the outputs and gradients of the inputs, with a row for each sample.
        """
        return forward_backward_all(self, blobs or (), diffs or (), arrays)

    def reshape(self) -> None:
        """Gives all blobs the shapes that follow from those of the inputs."""
        with pycaffe_errors():
            self._passes.reshape()

    def set_input_arrays(self, data: Any, labels: Any) -> None:
        """Sets the data of a MemoryData layer, see :func:`memory_arrays.set_memory_data`."""
        layers = self.torch_net.layers
        set_memory_data(layers[0] if layers else None, data, labels)

    def clear_param_diffs(self) -> None:
        """Sets the gradients of all parameters to zero."""
        self._views.use_diffs()
        clear_diffs(self.torch_net)
        self._views.show()

    def before_forward(self, function: Callable[[int], None]) -> None:
        """Calls ``function(index of the layer)`` before each layer of a forward pass."""
        self._passes.callbacks.before_forward.append(function)

    def after_forward(self, function: Callable[[int], None]) -> None:
        """The same, after each layer."""
        self._passes.callbacks.after_forward.append(function)

    def before_backward(self, function: Callable[[int], None]) -> None:
        """The same, before each layer of a backward pass."""
        self._passes.callbacks.before_backward.append(function)

    def after_backward(self, function: Callable[[int], None]) -> None:
        """The same, after each layer of a backward pass."""
        self._passes.callbacks.after_backward.append(function)

    @property
    def views(self) -> Views:
        """The arrays of this net that scripts hold."""
        return self._views

    def put_off_data(self, passes: int) -> None:
        """The data of ``passes`` passes that its solver leaves out are for those after them."""
        self._passes.put_off(passes)

    def send(self) -> None:
        """Brings to the device what scripts have written; passes do it by themselves."""
        self._views.send()

    def show(self) -> None:
        """Brings arrays that scripts hold up to date; passes do it by themselves."""
        self._views.show()

    # Weights

    def copy_from(self, path: str | os.PathLike[str]) -> None:
        """Copies the weights of a file (caffemodel, HDF5 ...) by layer name.

        Raises:
            FileError (a RuntimeError): the file is missing or cannot be read.
            FormatError, WeightsError: it is no weight file, or a layer does not fit.
        """
        self._views.send()
        with pycaffe_errors():
            report = self.torch_net.load_weights(path, lenient=True)
            self.take_diffs(path)
        report.write_to(LOGGER)
        self._views.show()

    load_hdf5 = copy_from

    def take_diffs(self, path: str | os.PathLike[str]) -> None:
        """Copies the gradients of a caffemodel whose weights the net has already."""
        take_diffs(load_weights(path), self._names, self._parameters)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the weights as a caffemodel, whatever the suffix."""
        self._save(path, "caffemodel")

    def save_hdf5(self, path: str | os.PathLike[str]) -> None:
        """Writes the weights as an HDF5 file of Caffe."""
        self._save(path, "hdf5")

    def _save(self, path: str | os.PathLike[str], form: str) -> None:
        self._views.send()
        with pycaffe_errors():
            save_weights(self._weights(), path, form)

    def _weights(self) -> Weights:
        """The weights, in the shapes of the blobs."""
        weights = self.torch_net.to_weights(settings=True)
        for layer in weights.layers:
            pairs = zip(layer.blobs, self.params.get(layer.name, ()), strict=False)
            layer.blobs[:] = [array.reshape(blob.shape) for array, blob in pairs]
        return weights

    def share_with(self, other: Net) -> None:
        """Uses the values of the parameters of ``other`` in the layers with the same names.

        Raises:
            ArgumentError: ``other`` is no net.
            WeightsError: a layer has other shapes there.
        """
        if not isinstance(other, Net):
            raise ArgumentError(f"share_with takes a caffe.Net, found {type(other).__name__}")
        for net in (self, other):
            net._views.send()
        share_data(self.torch_net, other.torch_net)
        self._views.link(other._views)
        self._views.show()

    def _forward(self, start: int, end: int) -> float:
        self._check_range(start, end)
        with pycaffe_errors():
            self._passes.forward(start, end)
        return float(self._passes.loss(start, end))

    def _backward(self, start: int, end: int) -> None:
        self._check_range(end, start)
        self._views.use_diffs()
        with pycaffe_errors():
            self._passes.backward(start, end)

    def _check_range(self, first: int, last: int) -> None:
        count = len(self._layer_list)
        if first < 0 or last >= count:
            raise CallError(f"the net has layers 0 to {count - 1}, found {first} to {last}")

    def _batch(self, arrays: Mapping[str, Any]) -> Iterator[Arrays]:
        return batches(self, arrays)

    def _set_input_arrays(self, data: Any, labels: Any) -> None:
        self.set_input_arrays(data, labels)

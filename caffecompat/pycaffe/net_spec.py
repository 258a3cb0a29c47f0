"""Definitions of nets as Python expressions: what ``caffe.net_spec`` is in pycaffe.

::

    from caffe import layers as L, params as P, NetSpec

    n = NetSpec()
    n.data, n.label = L.Data(source="train_lmdb", backend=P.Data.LMDB, batch_size=64, ntop=2)
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=20)
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    print(n.to_proto())

``L.<type>(*bottoms, **fields)`` makes a layer of any type name, known or not. A field belongs to
the parameter message of the type (``kernel_size`` of Convolution to ``convolution_param``) or,
where that has none of the name, to the layer itself (``param``, ``include``, ``loss_weight``,
``transform_param``). Values are numbers, strings, dicts for messages, lists for repeated fields.
``ntop`` is the number of tops, ``in_place`` gives the top the name of the bottom.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from caffecompat.errors import CaffeError, suggestion
from caffecompat.pycaffe.net_spec_fields import (
    PARAM_SUFFIX,
    FieldError,
    assign_proto,
    nearest_field,
    refuse_rival,
)
from caffecompat.pycaffe.proto import caffe_pb2

Names = dict[Any, str]
# Types whose fields are those of another one. BVLC's net_spec takes them in a dict only,
# convolution_param=dict(...); that of SSD's forks also as arguments.
_FIELDS_OF = {"Deconvolution": "Convolution"}

_TYPE_SUFFIX = "Parameter"


class BottomError(CaffeError, TypeError):
    """What is passed as a bottom is no top of another layer."""


class TopError(CaffeError, AttributeError, KeyError):
    """A top that was not set in a NetSpec."""


def param_name_dict() -> dict[str, str]:
    """The field of each layer type's parameters, ``{"InnerProduct": "inner_product", ...}``.

    The names are without their ending ``_param``.
    Where forks have more than one field for a type, the first is taken, BVLC's if there is one.
    """
    names: dict[str, str] = {}
    for field in caffe_pb2.LayerParameter.DESCRIPTOR.fields:
        if field.name.endswith(PARAM_SUFFIX) and field.message_type is not None:
            type_name = field.message_type.name.removesuffix(_TYPE_SUFFIX)
            names.setdefault(type_name, field.name.removesuffix(PARAM_SUFFIX))
    return names


_param_names = param_name_dict()


def to_proto(*tops: Top) -> Any:
    """The NetParameter of all layers that lead to the given tops, with automatic names."""
    layers: OrderedDict[Function, Any] = OrderedDict()
    autonames: Counter[str] = Counter()
    names: Names = {}
    for top in tops:
        top.fn._to_proto(layers, names, autonames)
    return _net(layers)


class Top:
    """One top of a layer, to be passed to other layers as a bottom.

    Attributes:
        fn: the :class:`Function` of the layer.
        n: the number of the top.
    """

    fn: Function
    n: int

    def __init__(self, fn: Function, n: int) -> None:
        self.fn = fn
        self.n = n

    def to_proto(self) -> Any:
        """The NetParameter of all layers that lead to this top."""
        return to_proto(self)

    def _update(self, params: dict[str, Any]) -> None:
        self.fn._update(params)

    def _to_proto(self, layers: Any, names: Names, autonames: Counter[str]) -> None:
        self.fn._to_proto(layers, names, autonames)


class Function:
    """A layer: its type, the tops that it reads, and its fields.

    Attributes:
        type_name, inputs, params, ntop, in_place: as passed to ``L.<type>``.
        tops: its :class:`Top` objects.

    Raises:
        BottomError: an input is no :class:`Top`.
    """

    type_name: str
    inputs: tuple[Any, ...]
    params: dict[str, Any]
    ntop: int
    in_place: bool
    tops: tuple[Top, ...]

    def __init__(self, type_name: str, inputs: Iterable[Any], params: dict[str, Any]) -> None:
        self.type_name = type_name
        self.inputs = tuple(inputs)
        for number, given in enumerate(self.inputs):
            if not isinstance(given, Top):
                raise BottomError(
                    f"{type_name} input {number} is not a Top (type is {type(given)})"
                )
        self.params = params
        self.ntop = params.pop("ntop", 1)
        self.in_place = params.pop("in_place", False)
        self.tops = tuple(Top(self, number) for number in range(self.ntop))

    def _update(self, params: dict[str, Any]) -> None:
        self.params.update(params)

    def _get_name(self, names: Names, autonames: Counter[str]) -> str:
        if self not in names:
            if self.ntop > 0:
                names[self] = self._get_top_name(self.tops[0], names, autonames)
            else:
                names[self] = self._next_name(autonames)
        return names[self]

    def _get_top_name(self, top: Top, names: Names, autonames: Counter[str]) -> str:
        if top not in names:
            names[top] = self._next_name(autonames)
        return names[top]

    def _next_name(self, autonames: Counter[str]) -> str:
        autonames[self.type_name] += 1
        return f"{self.type_name}{autonames[self.type_name]}"

    def _to_proto(self, layers: Any, names: Names, autonames: Counter[str]) -> None:
        """Adds this layer to ``layers``, after those that it reads.

        A walk without recursion, since nets may be deeper than Python's stack.
        """
        waiting = [self]
        while waiting:
            function = waiting[-1]
            missing = [top.fn for top in function.inputs if top.fn not in layers]
            if missing:
                waiting.append(missing[0])
                continue
            waiting.pop()
            if function not in layers:
                layers[function] = function._message(layers, names, autonames)

    def _message(self, layers: Any, names: Names, autonames: Counter[str]) -> Any:
        layer = caffe_pb2.LayerParameter()
        layer.type = self.type_name
        layer.bottom.extend(layers[top.fn].top[top.n] for top in self.inputs)
        if self.in_place:
            layer.top.extend(layer.bottom)
        else:
            layer.top.extend(self._get_top_name(top, names, autonames) for top in self.tops)
        layer.name = self._get_name(names, autonames)
        for name, value in self.params.items():
            assign_proto(self._owner(layer, name), name, value)
        return layer

    def _owner(self, layer: Any, name: str) -> Any:
        """The message that has the field ``name``: the parameters of the type, or the layer."""
        type_name = _FIELDS_OF.get(self.type_name, self.type_name)
        own = f"{_param_names.get(type_name)}{PARAM_SUFFIX}"
        fields = layer.DESCRIPTOR.fields_by_name
        if name.endswith("param") or own not in fields:
            return layer
        if name in fields[own].message_type.fields_by_name:
            refuse_rival(layer, own)
            return getattr(layer, own)
        if name not in fields:
            known = [*fields[own].message_type.fields, *fields.values()]
            raise FieldError(
                f"layer type {self.type_name!r} has no field {name!r}{nearest_field(name, known)}"
            )
        return layer


def _keys(spec: NetSpec) -> list[str]:
    """The names of the tops, in order."""
    return list(spec.tops)


def _vals(spec: NetSpec) -> list[Any]:
    """The tops, in order."""
    return list(spec.tops.values())


def _update(spec: NetSpec, name: str, params: dict[str, Any]) -> None:
    """Sets fields of the layer of a top, beside those that it has."""
    spec[name]._update(params)


_METHODS_OF_FORKS: dict[str, Callable[..., Any]] = {
    "keys": _keys,
    "vals": _vals,
    "update": _update,
}


class NetSpec:
    """The tops of a net by name, set as attributes or, for any name, by ``n["a/b"] = ...``.

    The name of a top becomes that of its blob, and of its layer if it is the layer's first.
    ``keys()``, ``vals()`` and ``update(name, fields)`` are those of SSD's fork; a top may have
    these names too, as in BVLC's Caffe, and then hides them.
    """

    tops: OrderedDict[str, Any]

    def __init__(self) -> None:
        super().__setattr__("tops", OrderedDict())

    def __setattr__(self, name: str, value: Any) -> None:
        self.tops[name] = value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "tops":  # as when it is copied or unpickled
            raise AttributeError(name)
        if name in _METHODS_OF_FORKS and name not in self.tops:
            return partial(_METHODS_OF_FORKS[name], self)
        return self[name]

    def __setitem__(self, key: str, value: Any) -> None:
        self.tops[key] = value

    def __getitem__(self, item: str) -> Any:
        try:
            return self.tops[item]
        except KeyError:
            raise TopError(f"NetSpec has no top {item!r}{suggestion(item, self.tops)}") from None

    def __delattr__(self, name: str) -> None:
        del self[name]

    def __delitem__(self, name: str) -> None:
        self[name]
        del self.tops[name]

    def to_proto(self) -> Any:
        """The NetParameter of all tops and what leads to them.

        Raises:
            FieldError, ValueOfFieldError: see :func:`assign_proto`.
        """
        names: Names = {top: name for name, top in self.tops.items()}
        autonames: Counter[str] = Counter()
        layers: OrderedDict[Function, Any] = OrderedDict()
        for top in self.tops.values():
            top._to_proto(layers, names, autonames)
        return _net(layers)


def _net(layers: OrderedDict[Function, Any]) -> Any:
    net = caffe_pb2.NetParameter()
    net.layer.extend(layers.values())
    return net


class Layers:
    """``L``: each attribute is a function that makes layers of the type of that name."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def layer_fn(*args: Any, **kwargs: Any) -> Any:
            fn = Function(name, args, kwargs)
            if fn.ntop == 0:
                return fn
            return fn.tops[0] if fn.ntop == 1 else fn.tops

        return layer_fn


class Parameters:
    """``P``: the values of enums by layer type, ``P.Pooling.MAX``, ``P.Data.LMDB``."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        message: Any = getattr(caffe_pb2, f"{name}{_TYPE_SUFFIX}", None)
        if message is None:
            types = [one.removesuffix(_TYPE_SUFFIX) for one in dir(caffe_pb2)]
            raise FieldError(f"params has no layer type {name!r}{suggestion(name, types)}")
        return message


layers = Layers()
params = Parameters()

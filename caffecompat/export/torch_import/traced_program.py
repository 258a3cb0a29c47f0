"""A program that torch.export traced, as a Caffe model."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.fx.node import map_arg

from caffecompat.errors import ExportError, first_line
from caffecompat.export.model import CaffeModel
from caffecompat.export.torch_import.layers import Layers
from caffecompat.export.torch_import.operator import Call, Unsupported, operators, shape_of
from caffecompat.export.torch_import.operators.normalisation import parts_of_local_response
from caffecompat.export.torch_import.undefined_values import undefined_values
from caffecompat.layers import catalogue
from caffecompat.net.definition import read_definition
from caffecompat.proto.input_layers import INPUT

GET_ITEM = "getitem"
# What these give does not depend on the values of the tensor that they get.
OF_SHAPES = {
    f"aten.{name}"
    for name in ("full_like", "new_full", "new_ones", "new_zeros", "ones_like", "zeros_like")
}
# Stands for the blob of an operator that could not be converted, so that others are looked at too.
UNKNOWN = "?"


def from_module(module: nn.Module, example_input: Any) -> CaffeModel:
    """See :func:`caffecompat.export.from_torch`."""
    inputs = tuple(example_input) if isinstance(example_input, (tuple, list)) else (example_input,)
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with own_warnings_ignored():
            program = torch.export.export(module, inputs)
            larger = (
                _with_one_more(module, inputs) if _moves_items(program, _items(inputs)) else None
            )
    except Exception as error:  # torch raises many types for code that it cannot trace
        raise ExportError(
            f"{type(module).__name__}: torch.export cannot trace it: {first_line(error)}"
        ) from error
    finally:
        for part in training:
            part.training = True
    return from_program(program, type(module).__name__, larger)


def _moves_items(program: Any, batch: int) -> bool:
    """Whether a value has another first axis than that of the items."""
    shapes = [shape_of(node) for node in program.graph.nodes if node.op == "call_function"]
    return any(shape[0] != batch for shape in shapes if shape)


def _items(inputs: tuple[Any, ...]) -> int:
    """The number of items of an example."""
    shape = list(getattr(inputs[0], "shape", [])) if inputs else []
    return int(shape[0]) if shape else 1


def _with_one_more(module: nn.Module, inputs: tuple[Any, ...]) -> Any:
    """The program for one more item, whose shapes tell where the items are; None if it has none."""
    more = tuple(
        torch.cat([value, value[:1]]) if isinstance(value, torch.Tensor) and value.dim() else value
        for value in inputs
    )
    log = logging.getLogger("torch._subclasses.fake_tensor")
    level = log.level
    log.setLevel(logging.CRITICAL)  # it reports what is caught here
    try:
        return torch.export.export(module, more)
    except Exception:  # torch raises many types; the module is for one number of items
        return None
    finally:
        log.setLevel(level)


def _axes_of_items(program: Any, larger: Any) -> dict[Any, int]:
    """For each value of a program the axis that is longer in the same one for more items."""
    pairs = list(zip(program.graph.nodes, larger.graph.nodes, strict=False))
    if any(one.target != other.target for one, other in pairs if one.op == "call_function"):
        return {}
    found = {}
    for one, other in pairs:
        extents = list(zip(shape_of(one), shape_of(other), strict=False))
        differing = [axis for axis, (before, after) in enumerate(extents) if before != after]
        if len(differing) == 1:
            found[one] = differing[0]
    return found


def from_program(program: Any, name: str, larger: Any = None) -> CaffeModel:
    """The Caffe model of an exported program.

    Args:
        program: a ``torch.export.ExportedProgram``, traced in evaluation mode.
        name: the net's name, and what messages call the program.
        larger: the same for one more item.

    Raises:
        ExportError: it has operators or settings that no layer of Caffe has; all are named.
    """
    # In-place operators become others, and views copies; the operators stay those of the module.
    with own_warnings_ignored():
        program = program.run_decompositions({})
        axes = {} if larger is None else _axes_of_items(program, larger.run_decompositions({}))
    conversion = _Conversion(program, dict(axes))
    conversion.run()
    if conversion.problems:
        lines = "\n".join(conversion.problems)
        raise ExportError(f"{name} cannot be written as layers of Caffe:\n{lines}")
    message, weights, names = conversion.layers.finish(name)
    definition = read_definition(message)
    notes = [f"output {i} is blob {names[top]!r}" for i, top in enumerate(conversion.outputs)]
    notes += _of_forks(message)
    if not axes and _moves_items(program, conversion.batch):
        count = conversion.batch
        notes.append(
            f"shapes are for {count} item{'s' * (count > 1)} at a time, as in the example; "
            "from_torch of the module finds those for any number, where it has them"
        )
    return CaffeModel(replace(definition, notes=[*definition.notes, *notes]), weights, path=name)


def _of_forks(message: Any) -> list[str]:
    """A note on layer types that BVLC Caffe does not have."""
    kinds = dict.fromkeys(layer.type for layer in message.layer)
    found = [
        f"{kind} ({one.fork})"
        for kind in kinds
        for one in [catalogue.choose(next(m for m in message.layer if m.type == kind))]
        if one.fork
    ]
    return [f"layer types of forks, which BVLC Caffe lacks: {', '.join(found)}"] if found else []


@contextmanager
def own_warnings_ignored() -> Iterator[None]:
    """Hides what torch says about its own code while it traces: a user can change nothing there."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.simplefilter("ignore", category)
        yield


class _Conversion:
    """Goes through the nodes of a program in order."""

    def __init__(self, program: Any, axes: dict[Any, int]) -> None:
        self.program = program
        self._axes = axes
        self.layers = Layers()
        self.problems: list[str] = []
        self.outputs: list[str] = []
        self._blobs: dict[Any, str] = {}
        self._constants: dict[Any, tuple[str, Any]] = {}
        self.batch = 1
        # The blobs of operators with several results.
        self._lists: dict[Any, tuple[str, ...]] = {}

    def run(self) -> None:
        self._read_inputs()
        nodes = [n for n in self.program.graph.nodes if n.op == "call_function"]
        absorbed = {part for node in nodes for part in parts_of_local_response(node)}
        for node in nodes:
            if node.users and node not in absorbed and not self._fold_constants(node):
                self._convert(node)
        self._write_outputs()

    def _read_inputs(self) -> None:
        signature = self.program.graph_signature
        names = {spec.arg.name: spec.target for spec in signature.input_specs if spec.target}
        tensors = {**self.program.state_dict, **self.program.constants}
        for node in self.program.graph.nodes:
            if node.op != "placeholder":
                continue
            if node.name in names:
                self._constants[node] = (names[node.name], tensors[names[node.name]])
                continue
            value = node.meta.get("val")
            if not isinstance(value, torch.Tensor) or not value.is_floating_point():
                self.problems.append(f"input {node.name!r}: it is no tensor of floating point")
                continue
            if not self._blobs:
                self.batch = max(1, *shape_of(node)[:1])
            message = self.layers.add(INPUT, node.name, [])
            message.input_param.shape.add().dim.extend(shape_of(node))
            self._blobs[node] = message.name

    def _fold_constants(self, node: Any) -> bool:
        """Computes what depends on parameters alone, on the shape of a value, or on nothing."""
        inputs = node.all_input_nodes
        of_shapes = _operator(node) in OF_SHAPES
        known = of_shapes or all(value in self._constants for value in inputs)
        if not known or undefined_values(node):
            return False
        if not isinstance(node.meta.get("val"), (torch.Tensor, tuple, list)):
            return True
        values = {
            value: self._constants[value][1]
            if value in self._constants
            else torch.zeros(shape_of(value), dtype=value.meta["val"].dtype)
            for value in inputs
        }
        with torch.no_grad():
            result = node.target(
                *map_arg(node.args, values.__getitem__), **map_arg(node.kwargs, values.__getitem__)
            )
        self._constants[node] = (node.name, result)
        return True

    def _convert(self, node: Any) -> None:
        operator = _operator(node)
        if operator == GET_ITEM and node.args[0] in self._blobs:
            self._take_item(node)
            return
        if not isinstance(node.meta.get("val"), (torch.Tensor, tuple, list)):
            return  # a size, which the shapes of the example stand for
        try:
            if operator not in operators:
                raise Unsupported(undefined_values(node) or "Caffe has no layer for it")
            found = operators.find(operator)(self._call(node))
            self._axes.setdefault(node, self._axis_of_inputs(node))
            if isinstance(found, tuple):
                self._lists[node] = found
            self._blobs[node] = found if isinstance(found, str) else found[0]
        except Unsupported as error:
            self._blobs[node] = UNKNOWN
            # A setting of an operator on an unknown value may be no mistake of its own.
            follows = any(self._blobs.get(value) == UNKNOWN for value in node.all_input_nodes)
            if operator not in operators or not follows:
                self.problems.append(f"{_place(node)}: {operator}: {error}")

    def _take_item(self, node: Any) -> None:
        """One value of an operator with several; of a normalisation the first, as in Caffe."""
        source, index = node.args
        self._axes.setdefault(node, self._axes.get(source, 0))
        if source in self._lists:
            self._blobs[node] = self._lists[source][index]
            return
        blob = self._blobs[source]
        if index != 0 and blob != UNKNOWN:
            self.problems.append(f"{_place(node)}: value {index} of an operator is used")
            blob = UNKNOWN
        self._blobs[node] = blob

    def _axis_of_inputs(self, node: Any) -> int:
        """The axis of the items in what an operator reads, and gives if it does not move it."""
        found = [self._axes[value] for value in node.all_input_nodes if value in self._axes]
        return found[0] if found else 0

    def _call(self, node: Any) -> Call:
        arguments = {}
        for position, argument in enumerate(node.target._schema.arguments):
            if position < len(node.args):
                arguments[argument.name] = node.args[position]
            else:
                default = argument.default_value if argument.has_default_value() else None
                arguments[argument.name] = node.kwargs.get(argument.name, default)
        name = _module(node)[0] or node.name
        return Call(
            *(self.layers, node, arguments, self._blobs, self._constants, name),
            batch=self.batch,
            axes=self._axes,
        )

    def _write_outputs(self) -> None:
        """Makes each output of the program a blob that no layer reads."""
        (output,) = [node for node in self.program.graph.nodes if node.op == "output"]
        for index, node in enumerate(output.args[0]):
            blob = self._blobs.get(node)
            if blob is None:
                self.problems.append(f"output {index}: it does not depend on an input")
            elif blob != UNKNOWN:
                if self.layers.is_read(blob) or self.layers.is_input(blob) or blob in self.outputs:
                    blob = str(self.layers.add("Split", f"{blob}_output", [blob]).name)
                self.outputs.append(blob)
        self.layers.silence_pieces(self.outputs)


def _operator(node: Any) -> str:
    """``aten.conv2d`` for any overload of the operator."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return str(getattr(node.target, "__name__", node.target))
    return str(schema.name).replace("::", ".")


def _module(node: Any) -> tuple[str, str]:
    """Path and type of the innermost module that calls an operator, if it calls nothing else."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return "", ""
    path, kind = stack[-1]
    kind = kind if isinstance(kind, str) else kind.__qualname__
    return (path if kind.startswith("torch.nn.") else ""), f"{path} ({kind.rpartition('.')[2]})"


def _place(node: Any) -> str:
    """Module, and line of the code that calls the operator."""
    where = _module(node)[1].removeprefix(" ") or node.name
    trace = node.meta.get("stack_trace") or ""
    lines = [line.strip() for line in trace.splitlines() if line.strip().startswith("File ")]
    own = [line for line in lines if "/torch/nn/" not in line]
    if not own:
        return where
    file, _, rest = own[-1].removeprefix('File "').partition('", line ')
    return f"{file}:{rest.partition(',')[0]}: {where}"

"""Python source of an ``nn.Module``, as ``caffecompat convert`` writes it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from types import CodeType
from typing import Any

import torch
from torch import nn

from caffecompat.errors import ExportError, FormatError, first_line
from caffecompat.export.engines.base import Arrays, Engine, EngineOptions, check_inputs, engines
from caffecompat.export.engines.caffe_net import CaffeNet
from caffecompat.export.engines.torch_program import outputs_by_name
from caffecompat.export.python_code.layer import identifier
from caffecompat.input_files import MEBIBYTE, read_input
from caffecompat.layers import Shape
from caffecompat.weights.files import read_named

MAX_BYTES = 16 * MEBIBYTE
WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth")


@engines.register("python")
class PythonSourceEngine(Engine):
    """The class ``Net`` of a ``.py`` file, on the CPU, beside another engine.

    The file is run as a program, so that the user must allow it. It has neither weights nor the
    sizes of its inputs: inputs are those of the other engine, in their order. Weights are those of
    the other engine if that is this package, or else of the state dict with the file's name beside
    it (``.safetensors``, ``.pt``, ``.pth``).
    """

    suffixes = (".py",)
    needs_other = True

    def __init__(self, path: Path, options: EngineOptions) -> None:
        self._path = path
        limit = MAX_BYTES if options.max_bytes is None else options.max_bytes
        source = read_input(path, limit)
        if not options.allow_python:
            raise ExportError(
                f"{path}: is a Python program, which would run; if you have read it, allow that "
                "with --allow-python"
            )
        other = options.other
        if other is None or isinstance(other, PythonSourceEngine):
            raise ExportError(
                f"{path}: Python source does not tell the sizes of its inputs; compare it with a "
                "weight file, a prototxt, .onnx, .pt2 or recorded values"
            )
        self._net = _net(_run(_compiled(source, path), path), path)
        self._load(_weights(path, options))
        self.inputs = self._inputs_among(other.inputs)
        self._check_arguments()

    def run(self, inputs: Mapping[str, Any]) -> Arrays:
        check_inputs(self, inputs, self._path)
        given = [torch.from_numpy(inputs[name]) for name in self.inputs]
        try:
            with torch.inference_mode():
                found = self._net(*given)
            return outputs_by_name(found)
        except Exception as error:  # of any type: it is the user's program
            raise ExportError(f"{self._path}: its net fails: {first_line(error)}") from error

    def _load(self, weights: Mapping[str, torch.Tensor]) -> None:
        # The file may be a part of the other's net, which has more layers.
        own = self._net.state_dict().keys()
        found = {name: value for name, value in weights.items() if name in own} or weights
        try:
            self._net.load_state_dict(found, assign=True)
        except (RuntimeError, TypeError) as error:
            lines = [line.strip() for line in str(error).splitlines()]
            raise ExportError(
                f"{self._path}: the weights do not fit its net: {' '.join(lines[1:3])[:300]}"
            ) from error
        self._net.eval()

    def _inputs_among(self, given: Mapping[str, Shape]) -> dict[str, Shape]:
        """The inputs of a part of a net by the names of its arguments; all if these differ."""
        arguments = list(inspect.signature(self._net.forward).parameters)
        names = {identifier(name, set()): name for name in given}
        if len(arguments) < len(given) and names.keys() >= set(arguments):
            return {names[argument]: given[names[argument]] for argument in arguments}
        return dict(given)

    def _check_arguments(self) -> None:
        """Refuses inputs that the net does not take as many of.

        Raises:
            ExportError: their number differs.
        """
        try:
            inspect.signature(self._net.forward).bind(*self.inputs)
        except TypeError as error:
            names = ", ".join(map(repr, self.inputs))
            raise ExportError(
                f"{self._path}: its net does not take the inputs {names}: {error}"
            ) from error


def _compiled(source: bytes, path: Path) -> CodeType:
    """The program; nothing of it has run.

    Raises:
        FormatError: it is no Python.
    """
    try:
        return compile(source, str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FormatError(f"{path}: is no Python source: {first_line(error)}") from error


def _run(code: CodeType, path: Path) -> dict[str, Any]:
    """The names that the program defines.

    Raises:
        ExportError: it fails.
    """
    names: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(code, names)
    except (Exception, SystemExit) as error:
        raise ExportError(f"{path}: fails when it is run: {first_line(error)}") from error
    return names


def _net(names: Mapping[str, Any], path: Path) -> nn.Module:
    """A new net of the class ``Net``.

    Raises:
        ExportError: there is no such class, or it fails.
    """
    made = names.get("Net")
    if not (isinstance(made, type) and issubclass(made, nn.Module)):
        raise ExportError(
            f"{path}: has no class Net(nn.Module), as caffecompat convert writes it into .py files"
        )
    try:
        return made()
    except Exception as error:
        raise ExportError(f"{path}: its Net cannot be made: {first_line(error)}") from error


def _weights(path: Path, options: EngineOptions) -> Mapping[str, torch.Tensor]:
    """The weights of the other engine, or those beside the file.

    Raises:
        ExportError: there are none.
        FileProblem, FormatError: the file beside is damaged.
    """
    if isinstance(options.other, CaffeNet):
        return options.other.net.state_dict()
    found = [beside for suffix in WEIGHT_SUFFIXES if (beside := path.with_suffix(suffix)).exists()]
    if not found:
        raise ExportError(
            f"{path}: has no weights; put its state dict beside it as "
            f"{path.with_suffix('.safetensors').name}, or compare it with a caffemodel"
        )
    named = read_named(found[0], options.max_bytes)
    if named is None:
        raise FormatError(f"{found[0]}: is no state dict, which is wanted for {path}")
    return {name: torch.from_numpy(array) for name, array in named.arrays.items()}

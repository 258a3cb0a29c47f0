"""A training definition as a deploy definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from caffecompat.errors import CaffeError, ExportError, LayerError, first_line, suggestion
from caffecompat.export.deploy.predictions import (
    Predictions,
    is_constant,
    is_loss,
    is_measure,
    is_source,
)
from caffecompat.export.deploy.training_settings import without_training_settings
from caffecompat.export.wiring import Step, Wiring, net_of
from caffecompat.graph import Version, build_graph, net_state
from caffecompat.graph.state import layer_is_included
from caffecompat.layers import BuildOptions, catalogue
from caffecompat.layers.dropout import passes_on
from caffecompat.net import Net
from caffecompat.net.definition import Definition
from caffecompat.proto.input_layers import INPUT, input_layer
from caffecompat.reporting.units import format_shape

# Fields of a NetParameter that a deploy definition has no use for.
NET_FIELDS = ("force_backward", "debug_info", "state")
DROPOUT = "Dropout"
# A stated shape of channels, height and width has no batch size.
IMAGE_AXES = 3


@dataclass(frozen=True)
class DeployOptions:
    """What the user chose.

    Attributes:
        batch: the first extent of inputs that a data layer gave; those of ``shapes`` keep theirs.
        shapes: shapes of data and input tops; one of three axes has no batch size. A layer with
            such a top is not looked at, so it may be of any type.
        outputs: names of the blobs to keep as outputs; empty for all predictions.
        remove_dropout: leave Dropout layers out, which do nothing in phase TEST.
        net: level and stages, and what may be done to learn shapes.
    """

    batch: int = 1
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    outputs: Sequence[str] = ()
    remove_dropout: bool = False
    net: BuildOptions = field(default_factory=BuildOptions)


@dataclass(frozen=True)
class Deployed:
    """A deploy definition.

    Attributes:
        message: the NetParameter.
        notes: one sentence for each layer that was removed or replaced, and what to look at.
    """

    message: Any
    notes: list[str]


def deploy(
    definition: Definition, options: DeployOptions | None = None, name: str = "the net"
) -> Deployed:
    """The definition that runs a net on images, from the one that it is trained with.

    Takes the layers of phase TEST, or of TRAIN if no data layer exists in TEST. Data layers become
    Input layers. A loss becomes its prediction: a Softmax for SoftmaxWithLoss and InfogainLoss, a
    Sigmoid for SigmoidCrossEntropyLoss, and what it compares with the labels for others. What does
    not lead to a prediction goes, and so do settings that only training reads.

    Args:
        definition: the training definition; it is not changed.
        options: what the user chose.
        name: what messages call the net, such as the path of its file.

    Raises:
        NetError, FileProblem: the net cannot be built, or the shape of its data is unknown.
        ExportError: there is nothing to keep, or the result cannot be built.
    """
    return _Deploying(definition, options or DeployOptions(), name).run()


class _Deploying:
    def __init__(self, definition: Definition, options: DeployOptions, who: str) -> None:
        self.definition = definition
        self.who = who
        self.options = options
        self.notes: list[str] = []
        message = definition.message
        state = self._state(self._phase())
        self.wiring = Wiring(build_graph(message, state, definition.place))
        self.net = self._net_for_shapes(state)
        self.shapes = {
            top.blob: tuple(shape)
            for built in self.net.layers
            for top, shape in zip(built.tops, built.shapes, strict=True)
        }

    def run(self) -> Deployed:
        parameters = {b.name for b in self.net.layers if b.module and b.module.layer.specs}
        predictions = Predictions(self.wiring, parameters)
        predictions.find(self._losses())
        wanted = self._chosen(predictions.wanted)
        for built in self.net.layers:
            self.notes += built.layer.notes if built.layer else []
        self.notes += predictions.notes
        self._prune(predictions.ancestors(wanted))
        if self.options.remove_dropout:
            for step in [
                s for s in self.wiring.steps if s.type == DROPOUT and passes_on(s.message)
            ]:
                if self.wiring.can_bypass(step):
                    self.wiring.bypass(step)
                    self.notes.append(f"{step.place}: removed, it does nothing in phase TEST")
        self._replace_sources(predictions.ancestors(wanted))
        for step in self.wiring.steps:
            without_training_settings(step.message)
        message = net_of(self.definition.message, self.wiring.layers())
        for name in NET_FIELDS:
            message.ClearField(name)
        self._check(message)
        return Deployed(message, self.notes)

    def _state(self, phase: str) -> Any:
        message, options = self.definition.message, self.options.net
        return net_state(message, phase, options.level, options.stages)

    def _phase(self) -> str:
        """TEST, or TRAIN where the definition has data layers only there."""
        sources = [s for layer in self.definition.message.layer if is_source(s := _step(layer))]
        for phase in ("TEST", "TRAIN"):
            state = self._state(phase)
            if any(layer_is_included(s.message, state, s.place) for s in sources):
                if phase == "TRAIN":
                    self.notes.append("no data layer exists in phase TEST, so those of TRAIN count")
                return phase
        raise ExportError(
            f"{self.who} has no data or input layer, so there is nothing that it could be run on"
        )

    def _net_for_shapes(self, state: Any) -> Net:
        """The net without its losses, and with inputs where the user states shapes."""
        known = [self.wiring.name_of(t) for s in self.wiring.steps if is_source(s) for t in s.tops]
        for name in self.options.shapes:
            if name not in known:
                raise ExportError(
                    f"{self.who}: no data layer has a top {name!r}{suggestion(name, known)}"
                )
        left_out: set[Version] = set()
        layers: list[Any] = []
        for step in self.wiring.steps:
            if is_loss(step) or is_measure(step) or left_out.intersection(step.bottoms):
                left_out.update(step.tops)
            elif is_source(step) and any(top.blob in self.options.shapes for top in step.tops):
                layers += [input_layer(top.blob, self._stated(top.blob)) for top in step.tops]
            else:
                self._refuse_unknown_source(step)
                layers.append(step.message)
        message = net_of(self.definition.message, layers)
        try:
            place = self._place if self.definition.place else None
            return self._built(Definition(message, place, path=self.definition.path), state)
        except LayerError as error:
            sources = [step for step in self.wiring.steps if is_source(step)]
            failed = next((s for s in sources if s.place == error.place), None)
            if failed is None:
                raise
            raise ExportError(f"{error}; {_shape_hint(failed)}") from error

    def _place(self, name: str, occurrence: int) -> str:
        """``file:line`` of a layer of the net for shapes, which lacks layers of the file."""
        who = [s for s in self.wiring.steps if s.name == name or name in s.message.top]
        if not who or self.definition.place is None:
            return name
        return who[min(occurrence, len(who) - 1)].location

    def _stated(self, name: str) -> tuple[int, ...]:
        """A stated shape with its batch size; of a top without one, probably labels, (N)."""
        shape = tuple(self.options.shapes.get(name, ()))
        return shape if shape and len(shape) != IMAGE_AXES else (self.options.batch, *shape)

    def _refuse_unknown_source(self, step: Step) -> None:
        if is_source(step) and step.type not in catalogue:
            raise ExportError(
                f"{step.place}: a type of data layer that is not known here; {_shape_hint(step)}"
            )

    def _built(self, definition: Definition | Any, state: Any) -> Net:
        return Net(definition, options=replace(self.options.net, state=state, shapes_only=True))

    def _losses(self) -> list[Step]:
        """The losses of the net; those of phase TRAIN if there are none in TEST."""
        found = [step for step in self.wiring.steps if is_loss(step)]
        if found:
            return found
        state = self._state("TRAIN")
        values = {top.blob: top for step in self.wiring.steps for top in step.tops}
        for layer in self.definition.message.layer:
            step = _step(layer)
            if is_loss(step) and layer_is_included(layer, state, step.place):
                # A label that exists in phase TRAIN only is no part of this net.
                step.bottoms = [values[name] for name in layer.bottom if name in values]
                found += [step] if step.bottoms else []
        return found

    def _chosen(self, wanted: list[Version]) -> list[Version]:
        """The predictions that ``outputs`` names, or values of the net with those names."""
        if not wanted and not self.options.outputs:
            raise ExportError(
                f"{self.who} has no prediction: no output depends on a layer with parameters; "
                "name the blobs to keep with --output"
            )
        if not self.options.outputs:
            return wanted
        values = {self.wiring.name_of(top): top for step in self.wiring.steps for top in step.tops}
        for name in self.options.outputs:
            if name not in values:
                raise ExportError(f"{self.who} has no blob {name!r}{suggestion(name, values)}")
        return [values[name] for name in self.options.outputs]

    def _prune(self, needed: set[Version]) -> None:
        """Removes the layers that make nothing of what is needed."""
        for step in list(self.wiring.steps):
            if not needed.intersection(step.tops):
                self.wiring.steps.remove(step)
                if is_source(step):
                    self.notes.append(f"{step.place}: removed, its tops are labels")
                elif not is_loss(step):
                    self.notes.append(f"{step.place}: removed, no prediction needs it")

    def _replace_sources(self, needed: set[Version]) -> None:
        """Puts an Input layer in the place of each data top."""
        steps: list[Step] = []
        for step in self.wiring.steps:
            if not is_source(step) or is_constant(step):
                steps.append(step)
                continue
            for top in step.tops:
                if top in needed:
                    shape = self._input_shape(top)
                    steps.append(Step(input_layer(top.blob, shape), step.place, [], [top]))
                    if step.type != INPUT:
                        what = f"replaced by an Input of {format_shape(shape)}"
                        self.notes.append(f"{step.place}: its top {top.blob!r} is {what}")
        self.wiring.steps = steps

    def _input_shape(self, top: Version) -> tuple[int, ...]:
        if top.blob in self.options.shapes:
            return self._stated(top.blob)
        return (self.options.batch, *self.shapes[top.blob][1:])

    def _check(self, message: Any) -> None:
        """Builds the result, so that nothing is written that does not run.

        Raises:
            ExportError: it cannot be built.
        """
        try:
            self._built(message, net_state(message, "TEST"))
        except CaffeError as error:
            raise ExportError(
                f"{self.who}: the deploy net cannot be built: {first_line(error)}; a layer may "
                "need the batch size of training: state it with --batch"
            ) from error


def _step(layer: Any) -> Step:
    """A layer of the definition, whatever its phase; a name stands for each bottom."""
    place = f"layer {layer.name!r} ({layer.type})"
    return Step(layer, place, [Version(name) for name in layer.bottom])


def _shape_hint(step: Step) -> str:
    top = step.message.top[0] if step.message.top else "data"
    return f"state the shape with --shape {top}=3x224x224, and the layer is left out unread"

"""What a net predicts: the values that a loss compares with labels, and how a loss reads them."""

from __future__ import annotations

from collections.abc import Iterator

from caffecompat.export.wiring import Step, Wiring, ancestors
from caffecompat.graph import Version
from caffecompat.layers import catalogue
from caffecompat.proto import schema

# Losses that apply a function to the scores before they compare: the layer for that function, and
# the settings of the loss that hold its axis.
FUNCTIONS = {
    "SoftmaxWithLoss": ("Softmax", "softmax_param"),
    "InfogainLoss": ("Softmax", "infogain_loss_param"),
    "SigmoidCrossEntropyLoss": ("Sigmoid", ""),
}
# Losses that compare values as they are; the number of bottoms that are predictions.
PLAIN = {
    "ContrastiveLoss": 2,
    "EuclideanLoss": 1,
    "HingeLoss": 1,
    "MultinomialLogisticLoss": 1,
}
MEASURES = {"Accuracy", "Silence", "HDF5Output"}
PREDICTION = "prob"


class Predictions:
    """Finds the predictions of a net, and replaces its losses by them.

    A value is learned if a layer with parameters is among those that make it. A top of a data layer
    is data if a learned value is made from it, else it is a label. A net without parameters has no
    labels.

    Attributes:
        wiring: the net; layers are appended to it.
        wanted: the values that the net is for, in order.
        notes: what became of each loss.
    """

    def __init__(self, wiring: Wiring, parameters: set[str]) -> None:
        """``parameters``: the names of the layers with parameters."""
        self.wiring = wiring
        self.notes: list[str] = []
        self.wanted: list[Version] = []
        self._producers = {top: step for step in wiring.steps for top in step.tops}
        self._learned: dict[Version, bool] = {}
        data: set[Version] = set()
        for step in wiring.steps:
            learned = step.name in parameters or any(self._learned[b] for b in step.bottoms)
            self._learned.update(dict.fromkeys(step.tops, learned))
            if step.name in parameters:
                data.update(self.sources(step.bottoms))
        brought = {
            top
            for step in wiring.steps
            if is_source(step) and not is_constant(step)
            for top in step.tops
        }
        self._labels = brought - data if data else set()

    def find(self, losses: list[Step]) -> None:
        """Collects the predictions of the losses and the other outputs of the net.

        Args:
            losses: the loss layers, which need not be in the wiring.
        """
        ends = [self._end_of(step) for step in losses]
        functions = [
            scores
            for step, scores in zip(losses, ends, strict=True)
            if scores is not None and step.type in FUNCTIONS
        ]
        names = _names(functions, self.wiring)
        for step, scores in zip(losses, ends, strict=True):
            if scores is not None and step.type in FUNCTIONS:
                self._want(self._apply(step, scores, names[scores]))
            else:
                self._want_bottoms(step)
        for value in self.wiring.outputs:
            step = self._producers[value]
            read = self.wiring.readers(value)  # by the layer of a prediction that was added
            if step not in losses and not is_measure(step) and not read:
                self._want_unlabelled(value)
        if not self.wanted:
            self._want_measured()

    def sources(self, values: list[Version]) -> set[Version]:
        """The tops of data and input layers that the values are made from."""
        return {v for v in self.ancestors(values) if is_source(self._producers[v])}

    def ancestors(self, values: list[Version]) -> set[Version]:
        """The values, and all that they are made from."""
        return ancestors(values, self._producers)

    def _end_of(self, loss: Step) -> Version | None:
        """The scores that a loss reads: its first bottom that is learned and no label."""
        learned = (b for b in loss.bottoms if self._learned[b] and not self._labelled(b))
        return next(learned, None) or next((b for b in loss.bottoms if not self._labelled(b)), None)

    def _labelled(self, value: Version) -> bool:
        return bool(self.sources([value]) & self._labels)

    def _want(self, value: Version) -> None:
        if value not in self.wanted:
            self.wanted.append(value)

    def _want_bottoms(self, loss: Step) -> None:
        """Keeps what a loss without a function compares with labels."""
        count = PLAIN.get(loss.type, len(loss.bottoms))
        scores = [b for b in loss.bottoms if self._learned[b] and not self._labelled(b)][:count]
        before = list(self.wanted)
        for value in scores or loss.bottoms[:1]:
            self._want_unlabelled(value)
        added = scores or [value for value in self.wanted if value not in before]
        names = " and ".join(repr(self.wiring.name_of(value)) for value in added)
        known = "" if loss.type in PLAIN else ", no prediction is known for its type"
        what = f"; what it read is an output: {names}" if names else ""
        self.notes.append(f"{loss.place}: removed{known}{what}")

    def _want_unlabelled(self, value: Version) -> None:
        """Keeps a learned value, or the nearest ones that no label is part of."""
        pending, seen = [value], set()
        while pending:
            here = pending.pop(0)
            if here in seen or not self._learned[here]:
                continue
            seen.add(here)
            if self._labelled(here):
                pending += self._producers[here].bottoms
            else:
                self._want(here)

    def _want_measured(self) -> None:
        """Without any loss or output, what Accuracy and the like look at is the prediction."""
        for step in self.wiring.steps:
            if is_measure(step):
                for bottom in step.bottoms:
                    self._want_unlabelled(bottom)

    def _apply(self, loss: Step, scores: Version, name: str) -> Version:
        """The value of the function that a loss applies to its scores."""
        kind, settings = FUNCTIONS[loss.type]
        for reader in self.wiring.readers(scores):
            if reader.type == kind:
                self.notes.append(f"{loss.place}: removed; layer {reader.name!r} is its prediction")
                return reader.tops[0]
        message = schema.new("LayerParameter")
        message.name, message.type = name, kind
        if settings and getattr(loss.message, settings).HasField("axis"):
            message.softmax_param.axis = getattr(loss.message, settings).axis
        value = Version(name)
        self.wiring.steps.append(Step(message, loss.place, [scores], [value]))
        self._producers[value] = self.wiring.steps[-1]
        self._learned[value] = self._learned[scores]
        self.notes.append(f"{loss.place}: its prediction takes its place, {name!r} ({kind})")
        return value


def is_loss(step: Step) -> bool:
    """Whether a layer adds to the loss: by a loss_weight, its type, or an unknown type's name."""
    if any(step.message.loss_weight):
        return True
    if step.type in catalogue:
        return any(kind.is_loss for kind in catalogue.definitions(step.type))
    return step.type.endswith("Loss")


def is_measure(step: Step) -> bool:
    """Whether a layer only looks at values: nothing is computed from its tops."""
    return step.type in MEASURES


def is_constant(step: Step) -> bool:
    """Whether a data layer gives constants, which are part of the net's function."""
    fillers = step.message.dummy_data_param.data_filler
    return step.type == "DummyData" and all(f.type == "constant" for f in fillers)


def is_source(step: Step) -> bool:
    """Whether a layer brings data or inputs, of a type that is known here or not."""
    return not step.bottoms and step.type != "Parameter"


def _names(scores: list[Version], wiring: Wiring) -> dict[Version, str]:
    """The names of predictions: "prob" for the last, and for others that of their scores before."""
    taken = {step.name for step in wiring.steps}
    taken |= {wiring.name_of(top) for step in wiring.steps for top in step.tops}
    names: dict[Version, str] = {}
    for value in reversed(scores):
        if value not in names:
            stem = f"{wiring.name_of(value)}_{PREDICTION}" if names else PREDICTION
            names[value] = next(name for name in _numbered(stem) if name not in taken)
            taken.add(names[value])
    return names


def _numbered(stem: str) -> Iterator[str]:
    yield stem
    number = 1
    while True:
        number += 1
        yield f"{stem}_{number}"

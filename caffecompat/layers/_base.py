"""The base class of layer types and the registry of their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeAlias

from caffecompat.errors import LayerError
from caffecompat.layers._catalogue import Catalogue
from caffecompat.layers._class_labels import ClassLabels, Indices
from caffecompat.layers._context import Context
from caffecompat.layers._loss_reduction import LossReduction
from caffecompat.layers._operation import Operation
from caffecompat.layers._receptive_field import ReceptiveField
from caffecompat.proto.schema import FORK_NUMBERS, new
from caffecompat.reporting.units import format_shape as format_shape
from caffecompat.weights.blob_shapes import MAX_AXES

if TYPE_CHECKING:
    import numpy as np
    import torch

    from caffecompat.layers._counter_rng import Noise

    Array: TypeAlias = np.ndarray | torch.Tensor

# The largest number of values in a blob. Caffe's limit is 2^31; no memory holds as many as this.
MAX_VALUES = 2**42

CHANNEL_AXIS = 1
ALONG_BATCH = "works along the first axis of the batch"

Shape: TypeAlias = tuple[int, ...]
Message: TypeAlias = Any

catalogue: Catalogue[Layer] = Catalogue("caffecompat.layers")


@dataclass(frozen=True)
class BlobCount:
    """How many bottoms or tops a layer takes; ``max`` None means any number."""

    min: int
    max: int | None

    def admits(self, number: int) -> bool:
        return self.min <= number and (self.max is None or number <= self.max)

    def __str__(self) -> str:
        if self.max is None:
            return f"at least {self.min}"
        return str(self.min) if self.min == self.max else f"{self.min} to {self.max}"


def exactly(number: int) -> BlobCount:
    return BlobCount(number, number)


def at_least(number: int) -> BlobCount:
    return BlobCount(number, None)


def between(lowest: int, highest: int) -> BlobCount:
    return BlobCount(lowest, highest)


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter blob of a layer: its name in torch, its shape, its initial values.

    ``filler`` is a FillerParameter message; if ``values`` is not None, it replaces the filler.
    ``learned`` is False for statistics that the forward pass updates itself (BatchNorm); they have
    no gradient.
    """

    name: str
    shape: Shape
    filler: Message
    learned: bool = True
    values: np.ndarray | None = None


def register(name: str, fork: str = "") -> Callable[[type[Layer]], type[Layer]]:
    """Class decorator that registers a :class:`Layer` under Caffe's type name.

    Args:
        name: the layer type.
        fork: whose Caffe defines it, e.g. ``"SSD"`` or ``"DeepLab, PSPNet"``; empty for types of
            BVLC Caffe and for a user's own. Several forks may define one type differently, each
            in a class of its own, which :meth:`Layer.fits` tells apart.
    """
    return catalogue.register(name, fork)


class Layer:
    """A layer type: its bottoms and tops, its parameters, its forward pass.

    A subclass defines three things. It does not handle files, devices, blob names or sharing.

    - The class attributes below.
    - :meth:`setup` runs once. It reads the definition, refuses what Caffe refuses and declares
      the parameters. It may derive parameter shapes, but no other shapes, from the bottoms.
    - :meth:`forward` is differentiable torch code. It reads all other shapes from its arguments,
      so that inputs can be resized at any time. When a net is built, the forward pass runs once
      on ``meta`` tensors to find the top shapes; a layer needs no separate shape formula. Common
      types state their top shapes too (:meth:`top_shapes`), so that they are known without torch.

    Attributes:
        type: Caffe's name, set by :func:`register`.
        fork: the forks of Caffe that define the type, set by :func:`register`; empty for BVLC's.
        bottoms, tops: how many bottoms and tops the layer takes.
        chosen_by_dialect: whether the user's dialect can choose this definition of the type.
        dialects: the dialects with which the definition computes something else.
        parameters: names of the parameter blobs in Caffe's order; torch keys are ``layer.name``.
        can_be_restored: a forward pass changes nothing but buffers and ``state``, in whose place
            it puts a new value, so that those before an interrupted pass can be restored.
        is_loss: the first top has loss weight 1 unless the definition sets another one.
        automatic_top: the net adds an unnamed top if the definition has too few (losses may).
        in_place: a top may have the name of the bottom at its position.
        forces_gradients: where the layer runs backward, net inputs below it and parameters with
            ``lr_mult: 0`` get gradients too, as with ``force_backward`` (Caffe's recurrent layers).
            Nothing learns from them, but the norm that ``clip_gradients`` looks at has them.
        ignores_propagate_down: Caffe's layer computes its bottoms' gradients with
            ``propagate_down: false`` too. They arrive if what made the bottom runs backward anyway.
        param_fields: fields of LayerParameter that hold the type's settings, in addition to the
            field that is named after the type.
        fork_fields: fields of forks that the type supports, e.g. ``"pooling_param.ceil_mode"``;
            the type refuses all other fields of forks.
        ignored_fork_fields: fields of forks that do not change what the type computes; a net that
            sets one gets no note.
        ignored_fields: those that Caffe does not use, as ``"data_param.mirror"``: they get a note.
        noise: the layer's random numbers; the net sets them before the first pass.
        checks_blobs: values embedded in the prototxt (``blobs``) must have the parameter's shape;
            the other types of Caffe check the number of values only.
        differentiable: for each bottom, whether it can get a gradient; the last entry applies to
            all further bottoms.
        keeps_shape: the only top has the shape of the first bottom; see :meth:`top_shapes`.
        pointwise: an element of a top depends only on the elements at the same spatial position of
            the bottoms, so that the receptive field does not change; see :meth:`receptive_field`.
        prefers_channels_last: in 16 bits on a GPU it is faster in ``torch.channels_last``.
        reads_definition: what the layer computes depends on other layers of the net; its context
            holds the whole definition, as that of a source does.
        reads_coordinates: a bottom holds places in pixels, which 16 or 8 bits would move.
        uses_host: a pass exchanges numbers with the host, which a CUDA graph cannot hold: it reads
            values, or copies some from Python that are not on the device yet.
        counts_passes: each pass adds one to a buffer.
        imports_code: :meth:`setup` runs code that the definition names. The user must allow it,
            and commands that need only the shapes do not build the net.

    Further attributes describe how the layer uses the samples of a batch. They belong to the
    class, or to the layer if :meth:`setup` sets them:

        batch_coupling: why the rows of a batch depend on each other or on the batch size, as a
            phrase that follows the layer's name and ends with the word "batch": ``"takes its
            statistics from the whole batch"``. Training on several ranks and
            ``--auto-iter-size`` print it.
        loss_reduction: how the layer computes its first top, a loss, from the samples. If a type
            with :attr:`is_loss` does not set it, training on several ranks assumes a mean over the
            batch and prints a warning. None for layers without a loss.
        class_labels: which labels a bottom may hold; None if no bottom holds labels.
        indices: which indices a bottom may hold; None if no bottom holds indices.
    """

    type: ClassVar[str] = ""
    fork: ClassVar[str] = ""
    chosen_by_dialect: ClassVar[bool] = True
    dialects: ClassVar[tuple[str, ...]] = ()
    bottoms: ClassVar[BlobCount] = exactly(1)
    tops: ClassVar[BlobCount] = exactly(1)
    parameters: ClassVar[tuple[str, ...]] = ()
    can_be_restored: bool = True
    is_loss: ClassVar[bool] = False
    automatic_top: ClassVar[bool] = False
    in_place: ClassVar[bool] = True
    differentiable: ClassVar[tuple[bool, ...]] = (True,)
    forces_gradients: ClassVar[bool] = False
    ignores_propagate_down: bool = False
    param_fields: ClassVar[tuple[str, ...]] = ()
    fork_fields: ClassVar[tuple[str, ...]] = ()
    ignored_fork_fields: ClassVar[tuple[str, ...]] = ()
    ignored_fields: ClassVar[tuple[str, ...]] = ()
    checks_blobs: ClassVar[bool] = False
    keeps_shape: ClassVar[bool] = False
    pointwise: ClassVar[bool] = False
    prefers_channels_last: ClassVar[bool] = False
    reads_definition: ClassVar[bool] = False
    reads_coordinates: ClassVar[bool] = False
    uses_host: ClassVar[bool] = False
    counts_passes: ClassVar[bool] = False
    imports_code: ClassVar[bool] = False

    batch_coupling: str | None = None
    loss_reduction: LossReduction | None = None
    class_labels: ClassLabels | None = None
    indices: Indices | None = None
    noise: Noise

    def __init__(self, context: Context) -> None:
        self.context = context
        self.specs: list[ParameterSpec] = []
        self.notes: list[str] = []
        # Whether forward passes values to the next pass itself, which a CUDA graph cannot replay.
        self.keeps_state = False

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        """Whether a LayerParameter of this type means this class's definition of the type.

        Asked only if several forks define the type. True: it can mean no other. False: it cannot
        mean this one. None: it does not tell.
        """
        return None

    @classmethod
    def finds_code(cls, message: Message) -> bool:
        """Whether the code that a LayerParameter names is there; for types that import code.

        The code then runs instead of a built-in equivalent.
        """
        return False

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        """Reads the LayerParameter ``message``; ``bottoms`` are the bottoms' shapes."""

    def prepare(self) -> None:
        """Makes what :meth:`forward` needs of torch, once, after :meth:`setup`."""

    def top_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape] | None:
        """The shapes of the tops, computed without torch; runs after :meth:`setup`.

        Where it answers, it must agree with :meth:`infer`. ``caffecompat summary`` asks it, so that
        a net whose layers all answer is described before torch could be loaded.

        Args:
            bottoms: the bottoms' shapes, without extents of 0.

        Returns:
            One shape for each top that :meth:`forward` computes; None if only :meth:`infer` tells.

        Raises:
            LayerError: the layer cannot work on these shapes. The net is then built with torch, so
                that the user sees the message of :meth:`infer`.
        """
        return [bottoms[0]] if self.keeps_shape else None

    @classmethod
    def states_top_shapes(cls) -> bool:
        """Whether :meth:`top_shapes` may answer for this class.

        A class that changes the forward pass of its base class must state its shapes anew.
        """
        changed = False
        for base in cls.__mro__:
            if "top_shapes" in vars(base) or "keeps_shape" in vars(base):
                # A base class without a forward pass states the shapes of those of its subclasses.
                own = base if issubclass(base, Layer) else Layer
                abstract = own.forward is Layer.forward and own.infer is Layer.infer
                return base is not Layer and (abstract or not changed)
            changed = changed or "forward" in vars(base) or "infer" in vars(base)
        return False

    def forward(self, *bottoms: Any, **parameters: Any) -> Any:
        """Tops from bottoms: a tensor, or a tuple of tensors when there are several tops.

        Parameters are keyword arguments with the names given to :meth:`parameter`.
        """
        raise NotImplementedError

    def infer(self, *bottoms: Any, **parameters: Any) -> Any:
        """Tops as ``meta`` tensors; runs once when the net is built.

        Only types whose top shapes depend on values (Filter) or that run other code (HDF5Output,
        Python) override it.
        """
        return self.forward(*bottoms, **parameters)

    def half_parameters(self) -> tuple[str, ...]:
        """Parameters that products alone read, which may come in 16 bits under autocast."""
        return ()

    def fusible_operation(self) -> Operation | None:
        """What :meth:`forward` computes, if it is an operation that nets on a GPU fuse.

        A class that derives from another one and changes its forward pass must not inherit the
        answer, so each class answers for itself alone.
        """
        return None

    def adapt(self, blobs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """The blobs of a weight file as this layer takes them.

        Only types whose Caffe accepts blobs of other shapes override it.
        """
        return blobs

    def parameter(
        self,
        name: str,
        shape: Sequence[int],
        filler: Message,
        learned: bool = True,
        values: np.ndarray | None = None,
    ) -> None:
        """Declares the next parameter blob (call in Caffe's blob order)."""
        self.check_size(shape, name)
        self.specs.append(ParameterSpec(name, tuple(shape), filler, learned, values))

    def check(self, condition: bool, sentence: str) -> None:
        """Raises :class:`LayerError` with the layer's place unless ``condition`` is true."""
        if not condition:
            self.refuse(sentence)

    def check_size(self, shape: Sequence[int], what: str) -> None:
        """Refuses, before any allocation, shapes that no memory or no blob of Caffe's can hold."""
        self.check_axes(shape, what)
        self.check(
            prod(shape) <= MAX_VALUES,
            f"{what} is {format_shape(shape)}: {prod(shape):.3g} values, more than any memory "
            "holds (Caffe's own limit is 2147483647)",
        )

    def check_axes(self, shape: Sequence[int], what: str) -> None:
        """Refuses shapes with more axes than Caffe's blobs can have (kMaxBlobAxes)."""
        self.check(
            len(shape) <= MAX_AXES,
            f"{what} has {len(shape)} axes, at most {MAX_AXES} are allowed",
        )

    def note(self, sentence: str) -> None:
        """Adds a note for the net's user about something that is not an error."""
        self.notes.append(f"{self.context.place}: {sentence}")

    def refuse(self, sentence: str) -> NoReturn:
        """Raises :class:`LayerError` with the layer's place before ``sentence``."""
        raise LayerError(f"{self.context.place}: {sentence}", self.context.place)

    def axis(self, axis: int, shape: Sequence[int], field: str = "axis") -> int:
        """``axis`` as an index from the first axis; negative values count from the end.

        Raises:
            LayerError: the shape has no such axis.
        """
        if not -len(shape) <= axis < len(shape):
            self.refuse(
                f"{field} is {axis}, but the bottom has {len(shape)} axes {format_shape(shape)}"
            )
        return axis % len(shape)

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Multiplications with a weight in one forward pass; 0 for types without such products."""
        return 0

    def receptive_field(self, field: ReceptiveField) -> ReceptiveField | str:
        """The receptive field of the tops, given that of the bottoms.

        Returns:
            The field, or the reason why there is none, as a clause about the layer.
        """
        if self.pointwise:
            return field
        return "it uses whole maps or rearranges them, or its type does not define a field"

    @property
    def training(self) -> bool:
        return self.context.phase == "TRAIN"

    @classmethod
    def settings(cls) -> list[str]:
        """The fields of LayerParameter that the type reads, each once: ``["pooling_param"]``.

        The field that is named after the type need not be in :attr:`param_fields`, but a field of
        a fork must be in :attr:`fork_fields`.
        """
        own = f"{cls.type.lower()}param"
        known = {name.partition(".")[0] for name in cls.fork_fields}
        fields = new("LayerParameter").DESCRIPTOR.fields
        named = [
            field.name
            for field in fields
            if field.name.replace("_", "") == own
            and (field.number not in FORK_NUMBERS or field.name in known)
        ]
        return list(dict.fromkeys((*named, *cls.param_fields)))

    @classmethod
    def parameter_names(cls, count: int) -> list[str]:
        """Names for ``count`` parameter blobs; blobs beyond :attr:`parameters` are ``blob<i>``."""
        return [cls.parameters[i] if i < len(cls.parameters) else f"blob{i}" for i in range(count)]

    @classmethod
    def fits_blobs(cls, shapes: Sequence[Shape]) -> bool:
        """Whether blobs of these shapes are parameters of this definition of the layer's type."""
        return len(shapes) == len(cls.parameters)

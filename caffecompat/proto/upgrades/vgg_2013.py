"""Definitions of the VGG group's own Caffe of December 2013, with which the paper's nets were made.

It was a fork of the first generation. What it added is brought to today's fields here, as far as
they exist; the step for the first generation then does the rest. Its schema is public, its code
is not: a field of unknown meaning is dropped with a note, and one that would change what
a layer computes is refused.
"""

from __future__ import annotations

from collections.abc import Callable

from caffecompat.errors import CaffeError
from caffecompat.proto.descriptors import layout
from caffecompat.proto.schema import Message, enum_names
from caffecompat.proto.upgrades import (
    OldNetError,
    OldSolverError,
    Problem,
    ReadNet,
    upgrade,
    upgrade_net,
)

_NET_FIELDS = (
    "root_img_dir",
    "crop_meanfile",
    "img_aug_type",
    "img_sampling_type",
    "top_k",
    "vis_label",
    "channels",
    "save_dir",
    "label_rank",
    "margin",
)
_FILLERS = ("weight_filler", "bias_filler")
_SOLVER_FIELDS = (
    "breakpoint",
    "batchsize",
    "display_debug",
    "load_solver_state",
    "snapshot_history_length",
)
# The values with which these fields have no effect, and why others are refused.
_NEUTRAL = {
    "label_rank": (0, "today's layers use only the label that they are given"),
    "margin": (1.0, "the margin of today's HingeLoss is always 1"),
}
_DROPPED = {
    "img_aug_type": "the meaning of its values is not public; write mirror, crop_size and "
    "img_rand_resize_lower/upper in transform_param",
    "img_sampling_type": "the meaning of its values is not public",
    "vis_label": "it served pictures of what a class looks like",
    "channels": "it served pictures of what a class looks like",
    "save_dir": "it served pictures of what a class looks like",
}


def has_vgg_layers(net: Message) -> bool:
    """Whether a layer of the first generation gives a field that only this fork had."""
    return any(
        layer.HasField("layer") and (_given(layer.layer, _NET_FIELDS) or _models(layer.layer))
        for layer in net.layers
    )


@upgrade(
    "vgg 2013 layers",
    message="NetParameter",
    order=5,
    note="translated fields of the VGG group's Caffe of 2013",
    needed=has_vgg_layers,
)
def translate_vgg_layers(net: Message) -> list[str]:
    """Each field becomes one of today's, or is dropped with a note.

    Raises:
        OldNetError: a setting that would change what a layer computes and has no successor.
    """
    notes: list[str] = []
    result = []
    for index, entry in enumerate(net.layers):
        if entry.HasField("layer"):
            _translate(entry.layer, index, notes)
        result += _one_per_rank(entry, notes)
    copies = [type(entry).FromString(entry.SerializeToString()) for entry in result]
    net.ClearField("layers")
    net.layers.extend(copies)
    return notes


def _given(message: Message, names: tuple[str, ...]) -> list[str]:
    given = {entry.name for entry, _ in message.ListFields()}
    return [name for name in names if name in given]


def _models(layer: Message) -> list[str]:
    return [name for name in _FILLERS if getattr(layer, name).model_path]


def _translate(layer: Message, index: int, notes: list[str]) -> None:
    who = f"layer {layer.name!r} ({layer.type})"
    for name in _models(layer):
        filler = getattr(layer, name)
        notes.append(
            f"{who}: {name} takes its values from layer {filler.model_layer_name!r} of "
            f"{filler.model_path!r} (model_path and model_layer_name, extensions of caffecompat)"
        )
    for name in _given(layer, _NET_FIELDS):
        if name in _NEUTRAL:
            neutral, reason = _NEUTRAL[name]
            if getattr(layer, name) != neutral:
                sentence = f"{who} has {name} {getattr(layer, name):g}, but {reason}"
                raise OldNetError(sentence, ("layers", index))
            notes.append(f"{who}: dropped {name}, which had its neutral value")
            layer.ClearField(name)
        elif name in _DROPPED:
            value = getattr(layer, name)
            notes.append(Problem(f"{who}: dropped {name}: {value}; {_DROPPED[name]}"))
            layer.ClearField(name)
    _translate_sources(layer, who, notes)


def _translate_sources(layer: Message, who: str, notes: list[str]) -> None:
    if layer.HasField("crop_meanfile"):
        notes.append(
            f"{who}: crop_meanfile became transform_param.crop_mean_file, an extension of "
            "caffecompat: the mean of crop size is subtracted from each crop"
        )
    if not layer.HasField("root_img_dir"):
        return
    if layer.type != "images":
        notes.append(
            Problem(f"{who}: dropped root_img_dir, which only lists of images have a use for")
        )
        layer.ClearField("root_img_dir")
        return
    # Today's root_folder is put before the name without a separator.
    if layer.root_img_dir and not layer.root_img_dir.endswith("/"):
        layer.root_img_dir += "/"
    notes.append(f"{who}: root_img_dir became image_data_param.root_folder")


def _one_per_rank(entry: Message, notes: list[str]) -> list[Message]:
    """An accuracy layer with several top_k becomes as many layers, each with a top of its own."""
    layer = entry.layer
    if not entry.HasField("layer") or not layer.top_k:
        return [entry]
    who = f"layer {layer.name!r} ({layer.type})"
    if layer.type != "accuracy":
        notes.append(Problem(f"{who}: dropped top_k, which only accuracy layers have"))
        layer.ClearField("top_k")
        return [entry]
    ranks = list(layer.top_k)
    result = []
    for position, rank in enumerate(ranks):
        copy = type(entry).FromString(entry.SerializeToString())
        del copy.layer.top_k[:]
        copy.layer.top_k.append(rank)
        if position:
            copy.layer.name += f"_top{rank}"
            copy.top[:] = [f"{top}_top{rank}" for top in entry.top]
        result.append(copy)
    shown = ", ".join(str(rank) for rank in ranks)
    became = "accuracy_param.top_k" if len(ranks) == 1 else "a layer for each value"
    notes.append(f"{who}: top_k {shown} became {became}")
    return result


def has_vgg_fields(solver: Message) -> bool:
    """Whether the solver gives a field that only this fork had."""
    return bool(_given(solver, _SOLVER_FIELDS))


@upgrade(
    "vgg 2013 solver",
    message="SolverParameter",
    order=5,
    note="translated fields of the VGG group's Caffe of 2013",
    needed=has_vgg_fields,
    reads_net=True,
)
def translate_vgg_solver(solver: Message, read_net: ReadNet) -> list[str]:
    """Break points become a multistep policy, the big batch becomes iter_size.

    The batch size of the data is looked up in the train net, whose path counts from the current
    folder as in Caffe.

    Raises:
        OldSolverError: the settings contradict today's fields beside them, or the batch is no
            multiple of the data's, or the train net cannot be read.
    """
    steps: dict[str, Callable[[Message], str]] = {
        "breakpoint": _translate_breakpoints,
        "batchsize": lambda solver: _translate_batch(solver, read_net),
        "display_debug": lambda _: "dropped display_debug; debug_info: true prints every layer",
        "load_solver_state": lambda _: (
            "dropped load_solver_state; the state to resume from is given to train (--snapshot)"
        ),
        "snapshot_history_length": lambda _: (
            "dropped snapshot_history_length; all snapshots are kept"
        ),
    }
    notes = [steps[name](solver) for name in _given(solver, _SOLVER_FIELDS)]
    for name in _SOLVER_FIELDS:
        solver.ClearField(name)
    return notes


def _translate_breakpoints(solver: Message) -> str:
    points = list(solver.breakpoint)
    here = ("breakpoint", 0)
    if solver.lr_policy not in ("", "fixed", "multistep") or solver.stepvalue:
        raise OldSolverError(
            f"breakpoint{{0}} divides the rate by 10, and lr_policy {solver.lr_policy!r} or "
            "stepvalue says otherwise; remove the one or the other",
            here,
        )
    if solver.HasField("gamma") and abs(solver.gamma - 0.1) > 1e-6:
        raise OldSolverError(
            f"breakpoint{{0}} divides the rate by 10, but gamma is {solver.gamma:g}{{1}}; "
            'remove gamma, or replace breakpoint by stepvalue and lr_policy: "multistep"',
            here,
            ("gamma", 0),
        )
    solver.lr_policy = "multistep"
    solver.gamma = 0.1
    solver.stepvalue.extend(points)
    shown = ", ".join(str(point) for point in points)
    return f'breakpoint {shown} became lr_policy: "multistep" with gamma: 0.1 and stepvalue'


def _translate_batch(solver: Message, read_net: ReadNet) -> str:
    batch = solver.batchsize
    here = ("batchsize", 0)
    if solver.HasField("iter_size"):
        raise OldSolverError("both batchsize{0} and iter_size are given; remove batchsize", here)
    data = _data_batch(solver, read_net)
    if batch <= 0 or batch % data:
        raise OldSolverError(
            f"batchsize is {batch}{{0}}, which is no multiple of the data layer's batch of {data}; "
            "change one of them",
            here,
        )
    solver.iter_size = batch // data
    return f"batchsize {batch} became iter_size: {batch // data}, since the data comes by {data}"


def _data_batch(solver: Message, read_net: ReadNet) -> int:
    """The batch size of the train net's data layers.

    Raises:
        OldSolverError: there is no net that can be read, or no one size.
    """
    remedy = "; replace it by iter_size (batchsize divided by the data layer's batch_size)"
    net = _train_net(solver, read_net, remedy)
    sizes = {
        value.batch_size
        for layer in net.layer
        for entry, value in layer.ListFields()
        if entry.name.endswith("data_param")
        and "batch_size" in layout(value.DESCRIPTOR).fields
        and _in_training(layer)
    }
    if len(sizes) != 1 or 0 in sizes:
        found = ", ".join(str(size) for size in sorted(sizes)) or "none"
        sentence = f"batchsize{{0}} needs one batch size in the train net, found {found}{remedy}"
        raise OldSolverError(sentence, ("batchsize", 0))
    return int(sizes.pop())


def _train_net(solver: Message, read_net: ReadNet, remedy: str) -> Message:
    inline = next((n for n in ("train_net_param", "net_param") if solver.HasField(n)), None)
    path = solver.train_net or solver.net
    try:
        if inline is None and path:
            return read_net(path)
        if inline is not None:
            net = type(getattr(solver, inline)).FromString(
                getattr(solver, inline).SerializeToString()
            )
            upgrade_net(net)
            return net
    except CaffeError as error:
        sentence = f"batchsize{{0}} needs the train net, and {error}{remedy}"
        raise OldSolverError(sentence, ("batchsize", 0)) from error
    raise OldSolverError(f"batchsize{{0}} needs the train net{remedy}", ("batchsize", 0))


def _in_training(layer: Message) -> bool:
    """Whether the rules admit the layer to the phase TRAIN; stages and levels are not looked at."""
    train = enum_names("Phase")["TRAIN"]
    if any(rule.HasField("phase") and rule.phase == train for rule in layer.exclude):
        return False
    return not layer.include or any(
        not rule.HasField("phase") or rule.phase == train for rule in layer.include
    )

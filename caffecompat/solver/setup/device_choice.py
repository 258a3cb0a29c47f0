"""The choice of devices: ``--gpu``, ``solver_mode`` and ranks; their description in the log."""

from __future__ import annotations

import torch

from caffecompat.errors import SolverError
from caffecompat.proto import schema
from caffecompat.proto.schema import Message

# Values of --gpu that mean the CPU; -1 is common in Caffe scripts.
_NO_GPU = ("none", "cpu", "-1")
# What helps where nothing can run on the CPU instead.
INSTALL_CUDA = "install torch with CUDA"
_REMEDY = f"add --cpu to run on the CPU (in Python device='cpu'), or {INSTALL_CUDA}"
# --cpu beside --gpu is refused.
_REMEDY_OF_FLAG = f"give --cpu in its place to run on the CPU, or {INSTALL_CUDA}"


def solver_device(message: Message, wanted: str | torch.device | None) -> torch.device:
    """The device of a solver: ``wanted``, else that of ``solver_mode`` if it is set, else the CPU.

    As in Caffe the default of ``solver_mode`` (GPU) does not count.

    Raises:
        SolverError: the GPU does not exist.
    """
    if wanted is not None:
        return checked_device(wanted)
    if asks_for_gpu(message):
        return checked_device(f"cuda:{message.device_id}", "solver_mode: GPU")
    return torch.device("cpu")


def asks_for_gpu(message: Message) -> bool:
    """Whether a solver sets ``solver_mode`` to GPU explicitly."""
    modes = schema.enum_names("SolverParameter.SolverMode")
    return bool(message.HasField("solver_mode") and message.solver_mode == modes["GPU"])


def checked_device(
    wanted: str | torch.device, source: str = "", remedy: str = _REMEDY
) -> torch.device:
    """``wanted`` as a torch device that exists.

    Args:
        wanted: e.g. ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        source: the flag or field that names it, for the message.
        remedy: what the message advises where torch can use no GPU.

    Raises:
        SolverError: torch does not know the device, or it does not exist.
    """
    source = source or f"device {str(wanted)!r}"
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise SolverError(
            f"{source}: there is no such device; use 'cpu', 'cuda' or 'cuda:1'"
        ) from None
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise SolverError(f"{source}: {torch_version()} cannot use a GPU here; {remedy}")
    if str(device) == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    if device.index >= torch.cuda.device_count():
        raise SolverError(
            f"{source}: there is no GPU {device.index}; this machine has "
            f"{torch.cuda.device_count()}"
        )
    return device


def torch_version() -> str:
    """torch and its build, e.g. ``torch 2.13.0+cpu``."""
    return f"torch {torch.__version__}"


def wants_cpu(flag: str) -> bool:
    """Whether ``--gpu`` names the CPU, which overrides ``solver_mode``."""
    return flag.strip().lower() in _NO_GPU


def flagged_devices(flag: str, remedy: str = _REMEDY_OF_FLAG) -> list[int]:
    """GPU ids from Caffe's ``--gpu`` flag: ``"0"``, ``"0,1"`` or ``"all"``.

    Empty for an empty flag and for one that names the CPU (:func:`wants_cpu`). ``remedy`` is of
    :func:`checked_device`.

    Raises:
        SolverError: the flag is not a list of numbers, or a GPU of it does not exist.
    """
    if not flag or wants_cpu(flag):
        return []
    if flag == "all":
        count = device_count()
        if count == 0:
            raise SolverError(f"--gpu all: {torch_version()} cannot use a GPU here; {remedy}")
        return list(range(count))
    parts = [part.strip() for part in flag.split(",")]
    if not all(part.isdigit() for part in parts):
        raise SolverError(f"--gpu {flag}: give GPU ids such as 0 or 0,1, all, or none for the CPU")
    ids = [int(part) for part in parts]
    for number in ids:
        checked_device(f"cuda:{number}", f"--gpu {flag}", remedy)
    return ids


def device_count() -> int:
    """How many GPUs torch can use here."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def flagged_device(flag: str) -> str | None:
    """The one device that ``--gpu`` names, as torch calls it; None without the flag.

    Raises:
        SolverError: the flag names several GPUs, or one that does not exist.
    """
    if wants_cpu(flag):
        return "cpu"
    ids = flagged_devices(flag)
    if len(ids) > 1:
        raise SolverError(f"--gpu {flag}: only one GPU can be used at a time; give a single id")
    return f"cuda:{ids[0]}" if ids else None


def rank_device(flag: str, solver: Message, local: int) -> str | None:
    """The device of rank number ``local`` on its machine; None leaves it to :func:`solver_device`.

    Args:
        flag: ``--gpu``: the GPUs of the ranks in order, or empty for what ``solver_mode`` says.
        solver: SolverParameter.

    Raises:
        SolverError: there is no GPU for this rank.
    """
    if wants_cpu(flag):
        return "cpu"
    ids = flagged_devices(flag)
    if not ids:
        if not asks_for_gpu(solver):
            return None
        ids = flagged_devices("all", _REMEDY)
    if local >= len(ids):
        more = ", or name more GPUs with --gpu" if len(ids) < device_count() else ""
        raise SolverError(
            f"rank {local} of this machine has no GPU, there are {len(ids)} for them; start fewer "
            f"ranks per machine{more}"
        )
    return f"cuda:{ids[local]}"


def describe_batch(
    batch: int | None, passes: int, world_size: int, per_device: bool = False
) -> list[str]:
    """A line about the effective batch size and its division over the devices.

    Args:
        batch: images per pass of all devices together, None if unknown.
        passes: ``iter_size``.
        world_size: devices.
        per_device: the definition's batch size is that of each device, as in Caffe.
    """
    if batch is None:
        return []
    if world_size == 1:
        how = f"batch size {batch} x iter_size {passes}, on 1 device"
    elif per_device:
        how = (
            f"batch size {batch // world_size} on each of {world_size} devices x iter_size {passes}"
        )
    else:
        how = f"batch size {batch} x iter_size {passes}, each batch split over {world_size} devices"
    return [f"Effective batch size: {batch * passes} ({how})"]


def describe_choice(device: torch.device) -> list[str]:
    """Caffe's log lines about the device of a training."""
    if device.type != "cuda":
        return ["Use CPU."]
    name = torch.cuda.get_device_name(device)
    return [f"Using GPUs {device.index}", f"GPU {device.index}: {name}"]


def describe_no_device() -> str:
    """A clause for a machine on which torch can use no GPU."""
    return f"no CUDA device; {torch_version()}"


def describe_device(number: int) -> list[str]:
    """The properties of a GPU, one per line, with Caffe's labels."""
    properties = torch.cuda.get_device_properties(number)
    entries: list[tuple[str, object]] = [
        ("Device id:", number),
        ("Major revision number:", properties.major),
        ("Minor revision number:", properties.minor),
        ("Name:", properties.name),
        ("Total global memory:", properties.total_memory),
        ("Total shared memory per block:", properties.shared_memory_per_block),
        ("Warp size:", properties.warp_size),
        ("Number of multiprocessors:", properties.multi_processor_count),
    ]
    return [f"{label:<30} {value}" for label, value in entries]

"""The names of pycaffe's compiled module."""

from caffecompat.proto import schema
from caffecompat.pycaffe.blob import Blob, BlobVec
from caffecompat.pycaffe.mode import (
    set_device,
    set_mode_cpu,
    set_mode_gpu,
    set_multiprocess,
    set_random_seed,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from caffecompat.pycaffe.nets.layer import Layer, layer_type_list
from caffecompat.pycaffe.nets.net import Net
from caffecompat.pycaffe.script_log import init_log, log, set_logging_disabled
from caffecompat.pycaffe.solvers.nccl import NCCL, has_nccl
from caffecompat.pycaffe.solvers.solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    Solver,
    get_solver,
)
from caffecompat.pycaffe.solvers.solver_parameter import SolverParameter
from caffecompat.pycaffe.timer import Timer

__version__ = "1.0.0"

# Boost's names for the sequences of pycaffe, which scripts import: here all are lists.
BoolVec = DtypeVec = IntVec = LayerVec = NetVec = RawBlobVec = StringVec = list
LayerParameter = schema.message_class("LayerParameter")

__all__ = [
    "NCCL",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "BlobVec",
    "BoolVec",
    "DtypeVec",
    "IntVec",
    "Layer",
    "LayerParameter",
    "LayerVec",
    "NesterovSolver",
    "Net",
    "NetVec",
    "RMSPropSolver",
    "RawBlobVec",
    "SGDSolver",
    "Solver",
    "SolverParameter",
    "StringVec",
    "Timer",
    "get_solver",
    "has_nccl",
    "init_log",
    "layer_type_list",
    "log",
    "set_device",
    "set_logging_disabled",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
]

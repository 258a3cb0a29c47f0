"""Executable nets: layer modules, shapes, parameters, blobs, passes."""

from caffecompat.net.blobs.blob import Blob
from caffecompat.net.execution.stepper import Stepper
from caffecompat.net.net import Net, Result
from caffecompat.net.parameters.initial_values import Learnable
from caffecompat.net.parameters.loading import LoadReport

__all__ = ["Blob", "Learnable", "LoadReport", "Net", "Result", "Stepper"]

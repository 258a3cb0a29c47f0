"""A graph made executable: modules, shapes, fillers, blobs and gradients, passes."""

from caffecompat.net.blobs import Blob
from caffecompat.net.loading import LoadReport
from caffecompat.net.net import Net, Result
from caffecompat.net.parameters import Learnable
from caffecompat.net.stepper import Stepper

__all__ = ["Blob", "Learnable", "LoadReport", "Net", "Result", "Stepper"]

"""The package ``caffe.proto`` of pycaffe; its one module is ``caffe_pb2``.

``import caffe`` alone is enough for ``caffe.proto.caffe_pb2``, as in pycaffe.
"""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    if name == "caffe_pb2":
        return importlib.import_module(f"{__name__}.caffe_pb2")
    raise AttributeError(f"module 'caffe.proto' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "caffe_pb2"})

"""Packaging. Tool settings are in pyproject.toml, tested versions in constraints.txt.

Images are read with OpenCV, which comes as one of two distributions of the same module: the full
build, which needs libGL, and the headless one. No requirement can say "either", so the full build
is the default, and ``CAFFECOMPAT_OPENCV=headless pip install .`` takes the other one.
"""

from __future__ import annotations

import os
from pathlib import Path

from setuptools import find_packages, setup

OPENCV = {"full": "opencv-python>=4.8", "headless": "opencv-python-headless>=4.8"}

# What a user may want on top; the messages about a missing library name these.
FOR_USERS = {
    "hdf5": ["h5py>=3.8"],
    # plyvel has no wheels for Python 3.13 on; from source it needs the library's headers.
    "leveldb": ["cramjam", "plyvel; python_version < '3.13'"],
    "plot": ["matplotlib"],
    "progress": ["tqdm"],
    "quickstart": ["scikit-learn"],
    "tensorboard": ["tensorboard"],
    "torch": ["torch>=2.10"],
}
ALL = sorted({requirement for extra in FOR_USERS.values() for requirement in extra})
FOR_DEVELOPERS = {
    "test": [
        "grpcio-tools",
        "hypothesis",
        "mypy",
        "pytest",
        "ruff",
        "scikit-learn",
        "types-protobuf",
    ],
}


def opencv() -> str:
    """The OpenCV distribution that the environment variable names."""
    choice = os.environ.get("CAFFECOMPAT_OPENCV", "full")
    if choice not in OPENCV:
        raise SystemExit(f"CAFFECOMPAT_OPENCV is {choice!r}: set it to one of {sorted(OPENCV)}")
    return OPENCV[choice]


setup(
    name="caffecompat",
    version="0.1.0",
    description="Caffe models run, train and convert on today's Python and PyTorch",
    long_description=Path(__file__).with_name("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-2-Clause",
    author="the caffecompat authors",
    python_requires=">=3.10",
    packages=find_packages(include=["caffecompat", "caffecompat.*"]),
    package_data={"caffecompat": ["py.typed", "proto/caffe.binpb"]},
    install_requires=[
        "h5py>=3.8",
        "lmdb>=1.4",
        "numpy>=1.24",
        "protobuf>=4.25.8",
        "torch>=2.10",
        opencv(),
    ],
    extras_require={**FOR_USERS, **FOR_DEVELOPERS, "all": ALL},
    entry_points={"console_scripts": ["caffecompat = caffecompat.cli.main:console"]},
)

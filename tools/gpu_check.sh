#!/usr/bin/env bash
# Checks and measures everything that needs a GPU, in under ten minutes, on a machine with one GPU
# and no network. Takes the arguments of tools/gpu_check.py:
#
#   tools/gpu_check.sh                              # all stages, in order of value
#   tools/gpu_check.sh --device cpu --small         # a trial without a GPU
#   tools/gpu_check.sh --only layers,repeated       # some of them
#   tools/gpu_check.sh --budget 540 --out check     # seconds in total; folder of the results
#
# It writes result.json into the folder of the results after each stage, prints one table, and
# exits with 1 if a stage failed. tools/bench/gpu_report.py writes the GPU part of
# docs/benchmarks.md from result.json.
#
# The machine needs Python with a CUDA build of torch (2.10 or later, with triton for --compile and
# a C compiler), numpy, protobuf, lmdb, opencv-python-headless, h5py and pytest; onnx, onnxscript
# and onnxruntime-gpu (with TensorRT's libraries for its rows) are used where they are installed.
# What it lacks is brought along as wheels.
# With a network, for the Python of that machine (here 3.12):
#
#   python -m pip download --only-binary=:all: --no-deps --python-version 3.12 \
#       --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
#       --platform manylinux2014_x86_64 -d wheels \
#       lmdb protobuf numpy opencv-python-headless h5py pytest pluggy iniconfig packaging pygments
#
# and on the machine, from the checkout:
#
#   python -m pip install --no-index --no-deps --target site wheels/*.whl
#   PYTHONPATH=site tools/gpu_check.sh
#
# Leave out of "wheels" what the machine has already: another numpy than the one that torch was
# built for can break torch. The recorded cases are looked for as by the tests (../shared or
# CAFFECOMPAT_RECORDED); without them those in tests/recorded/copies are used.
#
# CAFFECOMPAT_VENV names a virtual environment; otherwise .venv is used if there is one, and else
# the python3 of the path.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${CAFFECOMPAT_VENV:-.venv}/bin/python
[ -x "$python" ] || python=$(command -v python3)
exec "$python" tools/gpu_check.py "$@"

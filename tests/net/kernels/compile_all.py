"""Compiles every kernel for a GPU of compute capability 9.0; no GPU is needed for that.

A program of its own: where the interpreter is switched on, Triton compiles nothing.
"""

from __future__ import annotations

import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from caffecompat.net.kernels.launching import OPTIONS
from caffecompat.net.kernels.triton_code import (
    dropout,
    input_normalisation,
    pooling,
    rectified,
    update,
)

EXTENTS = "channels:i32 height:i32 width:i32 top_height:i32 top_width:i32"
MATRIX = "result:*bf16 partial:*fp32 rows:i32 channels:i32"
WINDOWS = {"KERNEL_H": 3, "KERNEL_W": 3, "STRIDE_H": 2, "STRIDE_W": 2, "PAD_H": 1, "PAD_W": 1}
POOLING = {**WINDOWS, "CHANNELS_LAST": True, "BLOCK": 1024}
BLOCKS = {"BLOCKS": 4, "ROWS": 16, "COLUMNS": 128}
NORMALISED = {"MEAN": 2, "SHIFTED": True, "SCALED": True, "PIXELS_LAST": True, "BLOB_LAST": True}

KERNELS: list[tuple[Any, str, dict[str, Any]]] = [
    (
        dropout.dropout,
        "x:*bf16 y:*bf16 position:*i64 key:i64 first:i32 total:i32 per_sample:i32 channels:i32 "
        "threshold:i32 factor:fp32",
        {"CHANNELS_LAST": True, "BLOCK": 1024},
    ),
    (
        pooling.max_pool,
        f"x:*bf16 y:*bf16 index:*u8 {EXTENTS}",
        {**POOLING, "NONE_IF_ZERO": True},
    ),
    (pooling.max_pool_gradient, f"gradient:*bf16 index:*u8 result:*bf16 {EXTENTS}", POOLING),
    (rectified.rectified_gradient, f"gradient:*bf16 value:*bf16 {MATRIX}", BLOCKS),
    (
        rectified.unpooled_gradient,
        f"gradient:*bf16 index:*u8 {MATRIX} height:i32 width:i32",
        BLOCKS,
    ),
    (
        input_normalisation.normalise,
        "pixels:*u8 mean:*fp32 shifts:*fp32 blob:*bf16 scale:fp32 channels:i32 stored:i32 "
        "plane:i32",
        {**NORMALISED, "BLOCK": 1024},
    ),
    (
        update.sgd_update,
        "value:*fp32 gradient:*bf16 history:*fp32 copy:*bf16 rate:*fp32 skip:*fp32 momentum:fp32 "
        "decay:fp32 size:i32",
        {"SKIPS": True, "COPIES": True, "BLOCK": 1024},
    ),
]


def main() -> None:
    for kernel, arguments, constants in KERNELS:
        signature = dict(pair.split(":") for pair in arguments.split())
        # Triton compiles a variant of its own for each number that is 1.
        ones = {name: 1 for name, kind in signature.items() if kind == "i32"}
        sizes = [compiled(kernel, signature, {**constants, **more}) for more in ({}, ones)]
        sys.stdout.write(f"{kernel.__name__} {min(sizes)}\n")


def compiled(kernel: Any, signature: dict[str, str], constants: dict[str, Any]) -> int:
    """The bytes of machine code."""
    signature = {**signature, **dict.fromkeys(constants, "constexpr")}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=dict(OPTIONS))
    return len(made.asm["cubin"])


if __name__ == "__main__":
    main()

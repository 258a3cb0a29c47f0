"""Kernel, stride, padding and outputs of a layer in a few characters."""

from __future__ import annotations

from typing import Any

from caffecompat.proto.schema import enum_name


def in_words(layer: Any) -> str:
    """Kernel, stride, padding and outputs for pictures: ``3×3 stride 2 pad 1, 64``."""
    if layer.HasField("convolution_param"):
        p = layer.convolution_param
        sizes = _sizes(_extent(p.kernel_size, p.kernel_h, p.kernel_w), p)
        dilation = _extent(p.dilation, 0, 0)
        sizes += f" dilation {dilation}" if dilation not in ("", "1") else ""
        group = f", group {p.group}" if p.group != 1 else ""
        return f"{sizes}, {p.num_output}{group}" if p.num_output else sizes
    if layer.HasField("inner_product_param"):
        return f"{layer.inner_product_param.num_output}"
    if not layer.HasField("pooling_param"):
        return ""
    p = layer.pooling_param
    name = enum_name(p, "pool")
    if p.global_pooling:
        return f"{name} global"
    return f"{name} {_sizes(_extent([p.kernel_size], p.kernel_h, p.kernel_w), p)}"


def _sizes(kernel: str, p: Any) -> str:
    """Kernel, stride and padding; strides of 1 and paddings of 0 are left out."""
    stride = _extent(_values(p.stride), p.stride_h, p.stride_w)
    pad = _extent(_values(p.pad), p.pad_h, p.pad_w)
    text = kernel.replace("x", "×") if "x" in kernel else f"{kernel}×{kernel}"
    text += f" stride {stride}" if stride not in ("", "1") else ""
    return text + (f" pad {pad}" if pad not in ("", "0") else "")


def _values(value: Any) -> Any:
    """The values of a field that is repeated in one message and single in another."""
    return [value] if isinstance(value, int) else value


def geometry(layer: Any) -> str:
    """The same for tables: ``7/2+3 64``, and ``64/groups``; strides of 1 are left out."""
    if layer.HasField("convolution_param"):
        p = layer.convolution_param
        kernel = _extent(p.kernel_size, p.kernel_h, p.kernel_w)
        stride = _extent(p.stride, p.stride_h, p.stride_w)
        pad = _extent(p.pad, p.pad_h, p.pad_w)
        group = f"/{p.group}" if p.group != 1 else ""
        outputs = f" {p.num_output}{group}" if p.num_output else ""
        return f"{_joined(kernel, stride, pad)}{outputs}"
    if not layer.HasField("pooling_param"):
        return ""
    p = layer.pooling_param
    if p.global_pooling:
        return "global"
    kernel = _extent([p.kernel_size], p.kernel_h, p.kernel_w)
    stride = _extent([p.stride], p.stride_h, p.stride_w)
    return _joined(kernel, stride, _extent([p.pad], p.pad_h, p.pad_w))


def _extent(values: Any, height: int, width: int) -> str:
    if height or width:
        return f"{height}x{width}"
    sizes = [str(value) for value in values]
    return sizes[0] if len(set(sizes)) == 1 else "x".join(sizes)


def _joined(kernel: str, stride: str, pad: str) -> str:
    stride = f"/{stride}" if stride not in ("", "1") else ""
    return f"{kernel}{stride}{f'+{pad}' if pad not in ('', '0') else ''}"

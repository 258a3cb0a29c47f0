"""Window files and WindowData layers for the tests of sources."""

from __future__ import annotations

from caffecompat.proto.schema import Message
from tests.layers.messages import message

FILE = """# 0
{image}
3 20 31
4
3 0.9 2 4 13 15
5 0.7 0 0 30 19
1 0.1 10 8 29 19
4 0.2 0 0 6 5
"""


def layer(source: str, more: str = "", transform: str = "crop_size: 9") -> Message:
    text = (
        f"window_data_param {{ source: '{source}' batch_size: 5 fg_fraction: 0.4 {more} }} "
        f"transform_param {{ {transform} }}"
    )
    return message("WindowData", text, 2)

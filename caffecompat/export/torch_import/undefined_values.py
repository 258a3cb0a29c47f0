"""Operators that give other values in each run, which no constant of a model may hold."""

from __future__ import annotations

from typing import Any

import torch

_EMPTY = ("aten::empty", "aten::new_empty")
# Operators that write every element of their first argument, whatever it was.
_OVERWRITE = ("aten::fill", "aten::zero", "aten::copy")
_DRAWING = torch.Tag.nondeterministic_seeded
# Arguments of operators that draw only where they are given, and not with these values.
_WITHOUT_DRAWS = {"dropout_p": 0, "train": False, "training": False}

_DRAWS = (
    "it draws numbers, and the model would hold those of this export for ever: draw them in "
    "__init__ and keep them with self.register_buffer(), or make them an input of forward()"
)
UNWRITTEN = (
    "its values are what its memory happens to hold: use torch.zeros(), or another function that "
    "writes them; an active Dropout2d or AlphaDropout makes such a tensor, too: export the module "
    "after .eval(), and give F.dropout2d training=self.training"
)


def undefined_values(node: Any) -> str:
    """Why the values of a node are others in each run; empty if they are not.

    Args:
        node: a call in a program that ``torch.export`` traced.
    """
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return ""
    if _DRAWING in node.target.tags and not _draws_nothing(node, schema):
        return _DRAWS
    if schema.name.startswith(_EMPTY) and not all(_overwrites(u, node) for u in node.users):
        return UNWRITTEN
    return ""


def _draws_nothing(node: Any, schema: Any) -> bool:
    for position, argument in enumerate(schema.arguments):
        if argument.name in _WITHOUT_DRAWS:
            given = node.kwargs.get(argument.name, argument.default_value)
            value = node.args[position] if position < len(node.args) else given
            return bool(value == _WITHOUT_DRAWS[argument.name])
    return False


def _overwrites(user: Any, node: Any) -> bool:
    """Whether a call reads no more of a node than its shape, or is refused for what it draws."""
    schema = getattr(user.target, "_schema", None)
    if schema is None or (schema.name not in _OVERWRITE and _DRAWING not in user.target.tags):
        return False
    return user.args[0] is node and node not in user.args[1:]

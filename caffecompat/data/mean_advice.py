"""What to do about a mean file that a definition names and nobody has made yet."""

from __future__ import annotations

import os
import shlex
from typing import Any

from caffecompat.errors import FileProblem


def refuse_missing_mean(message: Any, phase: str) -> None:
    """Raises where the mean file of a data layer does not exist.

    Args:
        message: the LayerParameter of the data layer.
        phase: ``"TRAIN"`` or ``"TEST"``; a test layer takes the mean of the training images.

    Raises:
        FileProblem: the file is missing; the sentence has the command that makes it.
    """
    path = message.transform_param.mean_file
    if not path or os.path.lexists(path):
        return
    database = message.data_param.source if message.HasField("data_param") else ""
    if phase == "TRAIN" and database:
        source, whose = shlex.quote(database), ""
    else:
        source, whose = "DB", ", where DB is the database that the net is trained on"
    folder = os.path.dirname(path)
    make = f"mkdir -p {shlex.quote(folder)} && " if folder and not os.path.isdir(folder) else ""
    raise FileProblem(
        f"{path}: there is no such mean file (from {os.getcwd()}); to make it, run: "
        f"{make}caffecompat compute-image-mean {source} {shlex.quote(path)}{whose}"
    )

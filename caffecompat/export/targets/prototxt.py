"""The definition alone, as prototxt text."""

from __future__ import annotations

from pathlib import Path

from caffecompat.export.model import CaffeModel
from caffecompat.export.targets.base import Target, targets
from caffecompat.proto.files import write_text


@targets.register("prototxt")
class Prototxt(Target):
    """``.prototxt``: the definition that a caffemodel or a state dict has in it."""

    suffixes = (".prototxt",)
    is_definition = True

    def write(self, model: CaffeModel, path: Path) -> None:
        write_text(model.definition.message, path)

    def loading_lines(self, model: CaffeModel, path: Path) -> list[str]:
        return [f"in caffecompat: caffecompat.Net({str(path)!r})"]

"""Python source of an ``nn.Module``."""

from __future__ import annotations

import shlex
from pathlib import Path

from caffecompat.export.model import CaffeModel
from caffecompat.export.outputs import check_outputs
from caffecompat.export.python_code.module import check_known, python_source
from caffecompat.export.targets.base import Target, targets
from caffecompat.net import Net
from caffecompat.output_files import atomic_write


@targets.register("python")
class PythonSource(Target):
    """``.py``: readable source that needs torch alone, with the layers' names.

    The weights are not in it: ``load(path)`` takes a state dict with keys like ``conv1_1.weight``,
    as ``.safetensors`` and ``.pt`` files of this package have them.
    """

    suffixes = (".py",)
    engine = "python"

    def refuse(self, model: CaffeModel) -> None:
        self._checked_net(model)

    def write(self, model: CaffeModel, path: Path) -> None:
        net = self._checked_net(model)
        source = python_source(net)
        with atomic_write(path) as file:
            file.write(source.encode("ascii"))

    def _checked_net(self, model: CaffeModel) -> Net:
        net = Net(model.definition, shapes_only=True)
        check_known(net, model.path)
        check_outputs(net, model.path or net.name)
        return net

    def loading_lines(self, model: CaffeModel, path: Path) -> list[str]:
        stem = path.stem if path.stem.isidentifier() else "model"
        weights = path.with_suffix(".safetensors")
        lines = [f"from {stem} import load", f"net = load({weights.name!r})"]
        if not weights.exists():
            written = f"caffecompat convert {shlex.quote(model.path)} {shlex.quote(str(weights))}"
            lines.insert(0, f"# its weights, with the same flags: {written}")
        return lines

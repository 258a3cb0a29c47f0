"""The table of forks' layers in docs/layers.md."""

from __future__ import annotations

import re
from pathlib import Path

import caffecompat.layers.forks as forks
from caffecompat.layers import catalogue

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `(\w+)` \| [^|]+ \| ([^|]*) \|$", re.MULTILINE)


def test_the_folders_and_their_examples() -> None:
    section = (ROOT / "docs/layers.md").read_text().split("\n## ")[1]
    rows = dict(ROW.findall(section))
    folders = {path.parent.name for path in Path(forks.__path__[0]).glob("*/__init__.py")}
    assert set(rows) == folders
    modules: dict[str, set[str]] = {}
    for layer in map(catalogue.find, catalogue):
        if ".forks." in layer.__module__:
            modules.setdefault(layer.__module__.split(".")[3], set()).add(layer.type)
    for folder, examples in rows.items():
        named = {words.split()[0] for words in examples.split(", ") if words}
        assert named <= modules[folder], folder

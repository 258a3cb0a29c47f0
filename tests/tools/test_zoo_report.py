"""tools/zoo_report.py on a small zoo."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import zoo_report

NET = """
name: "small"
layer { name: "d" type: "Data" top: "data" top: "label" data_param { batch_size: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
FILES = {
    "train.prototxt": ("train_val", NET),
    "solver.prototxt": ("solver", 'net: "elsewhere/train.prototxt" base_lr: 1 lr_policy: "fixed"'),
    "alone.prototxt": ("solver", 'net: "none.prototxt" base_lr: 1 lr_policy: "fixed"'),
    "unknown.prototxt": ("deploy", 'layer { name: "x" type: "Nowhere" top: "x" }'),
    "broken.prototxt": ("deploy", 'layer { name: "x" '),
}


def test_rows_of_a_small_zoo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    lines = ["name\tfile\tkind\tsource_repo"]
    for name, (kind, text) in FILES.items():
        (folder / name).write_text(text)
        lines.append(f"small\t{name}\t{kind}\tsomeone/small")
    (tmp_path / "manifest.tsv").write_text("\n".join(lines) + "\n")
    page = tmp_path / "page.md"
    assert zoo_report.main(["--zoo", str(tmp_path), "--markdown", str(page)]) == 1
    rows = {
        row.split(" | ")[0]: row.split(" | ")[2:]
        for row in capsys.readouterr().out.splitlines()
        if " | " in row
    }
    assert rows["small/train.prototxt"][:3] == ["yes", "yes", "-"]
    assert rows["small/solver.prototxt"][:3] == ["yes", "yes", "-"]
    assert rows["small/alone.prototxt"][:3] == ["yes", "-", "-"]
    assert rows["small/unknown.prototxt"][:3] == ["yes", "no", "-"]
    assert "unknown layer type 'Nowhere'" in rows["small/unknown.prototxt"][3]
    assert rows["small/broken.prototxt"][:3] == ["no", "-", "-"]
    assert "| small/train.prototxt | someone/small | yes | yes | - |  |" in page.read_text()
    assert zoo_report.main(["--zoo", str(tmp_path), "--only", "train", "--no-run"]) == 0

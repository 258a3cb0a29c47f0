"""What docs/conversion.md says about torch modules runs as it is printed."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conversion.md"


def test_the_example_from_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (text,) = re.findall(r"^```python from_torch.py\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    (tmp_path / "from_torch.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    runpy.run_path("from_torch.py", run_name="__main__")
    assert capsys.readouterr().out == "[\"output 0 is blob '6'\"] True\n"

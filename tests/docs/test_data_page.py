"""What docs/data.md and docs/training.md print about databases and old command lines runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from caffecompat.cli.main import main
from caffecompat.data.backends.database import open_database
from caffecompat.data.codec.datum import parse_datum

ROOT = Path(__file__).resolve().parents[2]


def test_databases_from_python(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "data.md").read_text()
    found = re.search(r"^```python write_lmdb.py\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    done = subprocess.run(
        [sys.executable, "-c", found[1]],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    with open_database(tmp_path / "ten_lmdb") as database:
        assert [parse_datum(database.read(n)[1]).label for n in range(10)] == list(range(10))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("./build/tools/caffe train --solver=s", "caffecompat caffe train --solver=s"),
        ("build/tools/convert_imageset.bin a b c", "caffecompat convert_imageset.bin a b c"),
        ("build/examples/mnist/convert_mnist_data.bin", "caffecompat convert_mnist_data.bin"),
        (
            "./build/examples/cpp_classification/classification.bin",
            "caffecompat classification.bin",
        ),
        ("GLOG_logtostderr=1 build/tools/caffe time", "GLOG_logtostderr=1 caffecompat caffe time"),
    ],
)
def test_the_substitution(
    old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = re.search(r"`(sed 's#.*?#')`", (ROOT / "docs" / "training.md").read_text())
    assert found is not None
    done = subprocess.run(
        found[1], shell=True, input=old, capture_output=True, text=True, check=True
    )
    assert done.stdout == new
    monkeypatch.chdir(tmp_path)
    words = shlex.split(new.split("caffecompat ")[1])
    # Understood so far that only its arguments are wrong.
    assert main([*words, "--no-such-flag"]) == 2

"""Messages of the modules that all packages use, followed to the letter."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import caffecompat
from caffecompat.cli.main import main
from caffecompat.errors import FileProblem, FormatError
from caffecompat.input_files import read_input
from caffecompat.output_files import atomic_write
from tests.net.nets import CLASSIFIER, saved
from tests.sentences import advised_limit


@pytest.mark.parametrize("name", ["set_mode_cpu", "SGDSolver", "io", "TRAIN_NET"])
def test_a_name_of_pycaffe(name: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(caffecompat, name)
    said = str(caught.value)
    assert ("it belongs to pycaffe's interface" in said) == (name != "TRAIN_NET")
    if name == "TRAIN_NET":
        return
    assert "write 'import caffecompat.pycaffe as caffe' and caffe." in said
    found = re.search(r"write '(import .*)' and (caffe\.\w+)$", said)
    assert found is not None
    written: dict[str, object] = {}
    exec(found[1], written)
    assert eval(found[2], written) is not None


def test_a_file_above_the_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, CLASSIFIER)
    assert main(["upgrade-net", str(path), str(tmp_path / "new"), "--max-bytes", "50"]) == 1
    said = capsys.readouterr().err
    assert "if you trust the file, add --max-bytes " in said
    assert main(["upgrade-net", str(path), str(tmp_path / "new"), *advised_limit(said)]) == 0
    with pytest.raises(FormatError) as caught:
        read_input(path, max_bytes=50)
    limit = int(advised_limit(str(caught.value))[1])
    assert f"(max_bytes={limit} in Python)" in str(caught.value)
    assert read_input(path, max_bytes=limit) == CLASSIFIER.encode()


def test_a_folder_where_a_file_is_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, CLASSIFIER)
    assert main(["upgrade-net", str(path), str(tmp_path)]) == 1
    assert "cannot be written: it is a folder; name a file in it" in capsys.readouterr().err
    assert main(["upgrade-net", str(path), str(tmp_path / "new.prototxt")]) == 0
    assert (tmp_path / "new.prototxt").exists()


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    with pytest.raises(FileProblem) as caught, atomic_write(target) as file:
        pass
    found = re.search(r"there is no folder (.*); create it first", str(caught.value))
    assert found is not None
    Path(found[1]).mkdir()
    with atomic_write(target) as file:
        file.write(b"abc")
    assert target.read_bytes() == b"abc"

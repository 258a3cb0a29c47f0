"""dataset show: contact sheets of records and of what a net reads."""

from __future__ import annotations

import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.cli.datasets.records import Run, picture


def read_sheet(path: Path) -> np.ndarray:
    sheet = cv2.imread(str(path))
    assert sheet is not None
    return sheet


def test_show_raw_records(mixed: Path, tmp_path: Path, run: Run) -> None:
    code, out, _ = run("show", mixed, tmp_path / "sheet.png", "--count", 3, "--columns", 2)
    assert code == 0
    assert "3 images of 1x6x5, 3x7x9" in out
    sheet = read_sheet(tmp_path / "sheet.png")
    # Two columns and two rows of 128 pixels, margins of 4, captions of 16.
    assert sheet.shape == (2 * 148 + 4, 2 * 132 + 4, 3)
    # The second image, each of its pixels 14 times as large.
    shown = sheet[4 : 4 + 7 * 14 : 14, 136 : 136 + 9 * 14 : 14]
    assert np.array_equal(shown, picture(2))
    # Captions are there.
    assert (sheet[132:148, 4:132] < 100).any()


def test_show_what_a_net_sees(numbered: Path, tmp_path: Path, run: Run) -> None:
    text = f"""
        layer {{ name: 'train' type: 'Data' top: 'data' top: 'label' include {{ phase: TRAIN }}
          data_param {{ source: '{numbered}' batch_size: 4 backend: LMDB }}
          transform_param {{ crop_size: 5 mean_value: 100 scale: 0.5 }} }}
        layer {{ name: 'test' type: 'Data' top: 'data' top: 'label' include {{ phase: TEST }}
          data_param {{ source: '{numbered}' batch_size: 4 backend: LMDB }}
          transform_param {{ crop_size: 3 }} }}
        layer {{ name: 'odd' type: 'NoSuchType' bottom: 'data' top: 'x' }}"""
    (tmp_path / "net.prototxt").write_text(text)
    sheet = tmp_path / "sheet.png"
    code, out, _ = run("show", "--net", tmp_path / "net.prototxt", sheet, "--count", 6)
    assert code == 0
    assert "6 images of 3x5x5" in out
    assert "black is -50, white is 77.5" in out
    arguments = ("show", "--net", tmp_path / "net.prototxt", "--phase", "TEST", sheet)
    code, out, _ = run(*arguments, "--count", 2, "--first", 3)
    assert "2 images of 3x3x3" in out
    shown = read_sheet(sheet)[4 : 4 + 3 * 42 : 42, 4 : 4 + 3 * 42 : 42].astype(float)
    # Record 3, cropped at its centre, spread from black to white.
    crop = picture(3)[2:5, 3:6].astype(float)
    slope = np.polyfit(crop.ravel(), shown.ravel(), 1)
    np.testing.assert_allclose(np.polyval(slope, crop), shown, atol=1.5)
    code, _, err = run(*arguments, "--layer", "train")
    assert code == 1
    assert "no data layer 'train' in phase TEST; it has: test" in err


def test_the_default_name_of_the_picture_is_that_of_the_database(
    mixed: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    code, out, _ = run("show", f"{mixed}/", "--count", 2)
    assert (code, out) == (0, "mixed.png: 2 images of 3x7x9\n")
    before = Path("mixed.png").read_bytes()
    code, _, err = run("show", mixed)
    assert code == 1
    assert "mixed.png: already exists" in err
    assert Path("mixed.png").read_bytes() == before
    # What the message says.
    _, command = err.strip().split("caffecompat dataset ")
    assert run(*shlex.split(command), "--count", 1)[0] == 0
    assert Path("mixed.png").read_bytes() != before
    Path("net.prototxt").write_text(
        "layer { name: 'd' type: 'Data' top: 'data' top: 'label' "
        f"data_param {{ source: '{mixed}' batch_size: 2 backend: LMDB }} }}"
    )
    code, out, _ = run("show", "--net", "net.prototxt", "--count", 2)
    assert out.startswith("net.png: 2 images of 3x7x9")
    _, _, err = run("show", "--net", "net.prototxt", "--count", 1)
    _, command = err.strip().split("caffecompat dataset ")
    assert run(*shlex.split(command), "--count", 1)[0] == 0


def test_the_name_decides_the_kind(mixed: Path, run: Run, tmp_path: Path) -> None:
    assert run("show", mixed, tmp_path / "sheet.JPG")[0] == 0
    assert (tmp_path / "sheet.JPG").read_bytes().startswith(b"\xff\xd8\xff")


def test_labels_have_names(
    mixed: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from caffecompat.data.tools import contact_sheet as module

    written: list[str] = []
    monkeypatch.setattr(module, "draw_text", lambda sheet, text, left, bottom: written.append(text))
    (tmp_path / "names").write_text("zero\none\ntwo\nthree\nBr\u00fccke mit langem Namen\n")
    sheet = tmp_path / "sheet.png"
    assert run("show", mixed, sheet, "--count", 3, "--labels", tmp_path / "names")[0] == 0
    assert written == ["4 Br?cke mit l..", "7", "4 Br?cke mit l.."]
    code, _, err = run("show", mixed, sheet, "--labels", tmp_path / "nosuch")
    assert code == 1
    assert "nosuch: there is no such file" in err

"""The verb dataset: describing, checking and rewriting databases."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.data.backends.database import create_database, open_database
from caffecompat.data.codec.datum import decode_datum, parse_datum
from caffecompat.data.codec.images import encode_image
from caffecompat.data.tools.convert_imageset import convert_imageset
from caffecompat.proto import schema
from tests.data.databases import datum, encoded_datum

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object) -> tuple[int, str, str]:
        code = main(["dataset", *map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def records(path: Path | str, backend: str = "LMDB") -> list[tuple[bytes, bytes]]:
    with open_database(path, backend) as database:
        return [database.read(index) for index in range(len(database))]


def labels(path: Path | str) -> list[int]:
    return [parse_datum(value).label for _, value in records(path)]


def write(path: Path, pairs: list[tuple[str, bytes]]) -> Path:
    with create_database(path) as writer:
        writer.write((key.encode(), value) for key, value in pairs)
    return path


def picture(number: int, shape: tuple[int, ...] = (7, 9, 3)) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, shape, np.uint8)


def encode_deep(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bit."""
    return bytes(cv2.imencode(".png", pixels.astype(np.uint16) * 200)[1])


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Five records of different kinds."""
    gray = picture(3, (1, 6, 5))
    float_message = schema.new("Datum")
    float_message.channels, float_message.height, float_message.width = 2, 1, 3
    float_message.float_data.extend(range(6))
    return write(
        tmp_path / "mixed",
        [
            ("00000000_a/b c.jpg", encoded_datum(encode_image(picture(1), "jpg"), 4)),
            ("00000001_d.png", encoded_datum(encode_image(picture(2), "png"), 7)),
            ("00000002_e.bmp", datum(gray, 4)),
            ("00000003", bytes(float_message.SerializeToString())),
            ("00000004_f.jpg", encoded_datum(encode_image(picture(5), "jpg"), 4)),
        ],
    )


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    pairs = [
        (f"{number:08d}_{number}.png", datum(picture(number).transpose(2, 0, 1), number))
        for number in range(250)
    ]
    return write(tmp_path / "numbered", pairs)


def test_info(mixed: Path, run: Run) -> None:
    code, out, _ = run("info", mixed)
    assert code == 0
    for line in (
        "records   5",
        "stored    2 jpg, 1 png, 1 raw, 1 float",
        "  3x7x9          3  ########################################",
        "  1x6x5          1  ##############",
        "labels: 3 different, 0 to 7",
        "  4          3  ########################################",
        "  5 numbers between 0 and 7 are not used",
        "  1 records have no label, which counts as 0",
    ):
        assert line in out


def test_info_of_many_labels_and_of_nothing(numbered: Path, tmp_path: Path, run: Run) -> None:
    _, out, _ = run("info", numbered, "--most", 3)
    assert "247 more, of 1 to 1 records each" in out
    code, out, _ = run("info", write(tmp_path / "empty", []))
    assert code == 0
    assert "records   0" in out


def test_verify_lists_every_bad_record(mixed: Path, tmp_path: Path, run: Run) -> None:
    code, out, _ = run("verify", mixed)
    assert (code, out) == (0, "5 records, 0 bad\n")
    good = records(mixed)
    jpeg = parse_datum(good[0][1]).data
    half = schema.new("Datum")
    half.channels, half.height, half.width, half.data = 3, 4, 5, b"abc"
    pairs = [
        *((key.decode(), value) for key, value in good),
        ("5", b"\xff"),
        ("6", encoded_datum(jpeg[:-2])),
        ("7", half.SerializeToString()),
        ("8", encoded_datum(b"")),
        ("9", encoded_datum(encode_deep(picture(1)))),
    ]
    code, out, _ = run("verify", write(tmp_path / "bad", pairs), "--workers", 2)
    assert code == 1
    lines = out.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == [
        f"record {number} (key '{number}')" for number in (5, 6, 7, 8)
    ]
    assert "not a Datum" in lines[0]
    # OpenCV 4 decodes it without a word, OpenCV 5 refuses.
    assert "the image is cut off" in lines[1] or "not an image" in lines[1]
    assert "holds 3 values, but its sizes are 3x4x5" in lines[2]
    assert lines[-1] == "10 records, 4 bad"


def test_info_counts_what_is_unusable(tmp_path: Path, run: Run) -> None:
    path = write(tmp_path / "bad", [("1", b"\xff"), ("2", encoded_datum(b"no image"))])
    code, out, _ = run("info", path)
    assert code == 0
    assert "unusable  2; which: caffecompat dataset verify" in out


def test_merge_keeps_the_order_and_numbers_anew(mixed: Path, numbered: Path, run: Run) -> None:
    target = mixed.with_name("merged")
    code, out, _ = run("merge", numbered, mixed, numbered, target)
    assert (code, out) == (0, f"{target}: 505 records\n")
    found = records(target)
    assert [value for _, value in found] == [
        value for source in (numbered, mixed, numbered) for _, value in records(source)
    ]
    assert found[250][0] == b"00000250_a/b c.jpg"
    assert found[253][0] == b"00000253_00000003"
    assert found[504][0] == b"00000504_249.png"


def test_shuffle_is_a_pure_function_of_the_seed(numbered: Path, run: Run) -> None:
    made = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        target = numbered.with_name(name)
        assert run("shuffle", numbered, target, "--seed", seed)[0] == 0
        made.append(records(target))
    assert made[0] == made[1]
    order = [parse_datum(value).label for _, value in made[0]]
    assert sorted(order) == list(range(250))
    assert order != [parse_datum(value).label for _, value in made[2]] != list(range(250))
    assert [key for key, _ in made[0]] == [
        b"%08d_%d.png" % (number, label) for number, label in enumerate(order)
    ]


def test_split_puts_every_record_into_one_part(numbered: Path, run: Run) -> None:
    first, second = numbered.with_name("first"), numbered.with_name("second")
    code, out, _ = run("split", numbered, first, second, "--fraction", 0.3, "--seed", 5)
    assert (code, out) == (0, f"{first}: 75 records\n{second}: 175 records\n")
    parts = records(first) + records(second)
    assert sorted(parts) == records(numbered)
    assert labels(first) == sorted(labels(first))
    # By chance: not the first 75.
    assert 20 < sum(label < 125 for label in labels(first)) < 55
    assert labels(first)[-1] > 75


def test_sample_draws_without_repeating(numbered: Path, run: Run) -> None:
    target = numbered.with_name("sampled")
    assert run("sample", numbered, target, "--count", 20)[0] == 0
    found = labels(target)
    assert len(set(found)) == 20
    assert found == sorted(found)
    assert set(records(target)) <= set(records(numbered))


def test_export_and_convert_give_the_same_pixels_back(
    numbered: Path, tmp_path: Path, run: Run
) -> None:
    folder = tmp_path / "images"
    code, out, _ = run("export", numbered, folder)
    assert (code, out) == (0, f"{folder}: 250 images and list.txt\n")
    convert_imageset(f"{folder}/", str(folder / "list.txt"), str(tmp_path / "again"))
    assert records(tmp_path / "again") == records(numbered)


def test_export_names(tmp_path: Path, run: Run) -> None:
    jpeg, png = encode_image(picture(1), "jpg"), encode_image(picture(2), "png")
    raw = datum(picture(3, (1, 5, 4)), 9)
    names = ["00000000_a/b c.JPEG", "00000001_../../out.jpg", "00000002_/root.jpg", "00000003_a\nb"]
    pairs = [(name, encoded_datum(jpeg, number)) for number, name in enumerate(names)]
    pairs += [("00000004_a/b c.JPEG", encoded_datum(jpeg, 4)), ("00000005_x.jpg", raw)]
    pairs += [("00000006_list.txt", encoded_datum(png, 6)), ("plain", encoded_datum(png, 7))]
    folder = tmp_path / "images"
    assert run("export", write(tmp_path / "db", pairs), folder)[0] == 0
    assert (folder / "list.txt").read_text().splitlines() == [
        "a/b c.JPEG 0",
        "00000001.jpg 1",
        "00000002.jpg 2",
        "00000003.jpg 3",
        "a/00000004_b c.JPEG 4",
        "x.png 9",
        "list.png 6",
        "plain.png 7",
    ]
    assert (folder / "a" / "b c.JPEG").read_bytes() == jpeg
    gray = cv2.imread(str(folder / "x.png"), cv2.IMREAD_UNCHANGED)
    assert gray is not None
    assert np.array_equal(gray[None], decode_datum(parse_datum(raw)))
    assert sorted(os.listdir(tmp_path)) == ["db", "images"]


def test_what_no_image_file_holds_is_named_and_leaves_nothing(mixed: Path, run: Run) -> None:
    code, _, err = run("export", mixed, mixed.with_name("images"))
    assert code == 1
    assert "record 3 (key '00000003'): it has float values, which image files cannot store" in err
    assert os.listdir(mixed.parent) == ["mixed"]


@pytest.mark.parametrize(
    "words",
    [
        ("merge", "DB", "DB"),
        ("shuffle", "DB"),
        ("sample", "DB", "--count", 2),
        ("export", "DB"),
    ],
)
def test_an_existing_target_is_left_alone(mixed: Path, run: Run, words: tuple[Any, ...]) -> None:
    target = mixed.with_name("there")
    target.mkdir()
    filled = [mixed if word == "DB" else word for word in words]
    at = next((i for i, word in enumerate(filled) if word == "--count"), len(filled))
    code, _, err = run(*filled[:at], target, *filled[at:])
    assert code == 1
    assert "there: already exists" in err
    assert os.listdir(target) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("info", "nosuch"), "nosuch: there is no database"),
        (("info", "."), "this is not an LMDB"),
        (("merge", "mixed", "nosuch", "out"), "nosuch: there is no database"),
        (("split", "mixed", "a", "b", "--fraction", "1"), "expected a number between 0 and 1"),
        (("sample", "mixed", "out", "--count", "6"), "6 records were requested, it has 5"),
        (("show", "out.png"), "give a database, or a net"),
        (("show", "mixed", "out.png", "--count", "0"), "--count is 0"),
        (("show",), "give a database, or a net"),
        (("show", "mixed", "a.png", "b.png"), "give a database, or a net"),
        (("show", "mixed", "out.svg"), "out.svg: the name must end in .png or .jpg"),
        (("show", "mixed", "out.png", "--first", "5"), "there are no images to show"),
        (("show", "--net", "nosuch", "out.png"), "nosuch"),
        (("show", "--net", "empty", "out.png", "--layer", "x"), "no data layer 'x' in phase TRAIN"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_1(
    mixed: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.chdir(mixed.parent)
    Path("empty").write_text("name: 'empty'")
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert sentence in err
    assert sorted(os.listdir()) == ["empty", "mixed"]


@pytest.mark.parametrize("words", [(), ("nosuch",), ("split", "a", "b", "c"), ("info", "--nosuch")])
def test_bad_usage_is_exit_code_2(run: Run, words: tuple[str, ...]) -> None:
    code, _, err = run(*words)
    assert code == 2
    assert "usage" in err


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


def test_a_list_of_a_folder_tree(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("images/dog/1.png", "images/cat/2.png", "images/cat/deep/3 4.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(name, picture(1))
    code, out, _ = run("list", "images", "made/list.txt")
    assert code == 0
    assert out == "made/list.txt: 3 images of 2 classes, named in made/list.txt.labels\n"
    assert Path("made/list.txt").read_text() == "cat/2.png 0\ncat/deep/3 4.png 0\ndog/1.png 1\n"
    assert Path("made/list.txt.labels").read_text() == "cat\ndog\n"
    assert convert_imageset("images/", "made/list.txt", "db").records == 3
    assert run("list", "images/", "other.txt", "--root", "")[0] == 0
    assert Path("other.txt").read_text().startswith("images/cat/2.png 0\n")
    code, _, err = run("list", "images", "other.txt")
    assert code == 1
    assert "other.txt: already exists" in err
    code, _, err = run("list", "images", "x.txt", "--root", "elsewhere/")
    assert "images: the folder does not begin with the root 'elsewhere/'" in err


def test_the_name_decides_the_kind(mixed: Path, run: Run, tmp_path: Path) -> None:
    assert run("show", mixed, tmp_path / "sheet.JPG")[0] == 0
    assert (tmp_path / "sheet.JPG").read_bytes().startswith(b"\xff\xd8\xff")


def test_leveldb_in_and_out(mixed: Path, run: Run) -> None:
    pytest.importorskip("plyvel", reason="plyvel (extra leveldb) is not installed")
    level, back = mixed.with_name("level"), mixed.with_name("back")
    assert run("merge", mixed, level, "--backend", "leveldb")[0] == 0
    assert "records   5" in run("info", level)[1]
    assert run("merge", level, back, "--backend", "lmdb")[0] == 0
    assert [v for _, v in records(back)] == [v for _, v in records(mixed)]

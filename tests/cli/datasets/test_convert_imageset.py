"""The verbs convert-imageset and compute-image-mean, as a user types them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from caffecompat.cli.main import main
from caffecompat.data.backends.database import open_database
from caffecompat.data.codec.datum import decode_datum, parse_datum
from tests.places import COPIES

DATA = COPIES / "data"

PREFIX = re.compile(r"[IWE]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \w+\.py:\d+\] ")


@pytest.fixture(autouse=True)
def _among_the_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA)


def logged(text: str) -> list[str]:
    lines = text.splitlines()
    assert all(PREFIX.match(line) for line in lines)
    return [PREFIX.sub("", line) for line in lines]


@pytest.mark.parametrize("dash", ["-", "--"])
def test_convert_with_caffes_spellings(
    dash: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = str(tmp_path / "db")
    flags = ["gray", "resize_width=6", "resize_height", "4", "check_size=true", "backend=lmdb"]
    words = [word if word == "4" else dash + word for word in flags]
    assert main(["convert_imageset", *words, "images/", "mix.txt", db]) == 0
    captured = capsys.readouterr()
    assert logged(captured.err) == [
        "A total of 6 images.",
        "Expected size: about 504 bytes (6 records of 36 bytes, measured on 6)",
        f"Opened lmdb {db}",
        "Processed 6 files.",
    ]
    assert captured.out == ""
    with open_database(db) as database:
        shapes = {decode_datum(parse_datum(database.read(n)[1])).shape for n in range(6)}
    assert shapes == {(1, 4, 6)}


def test_convert_takes_every_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--shuffle", "--seed", "-3", "--encoded", "--encode-type", "png", "--nogray"]
    assert main(["convert-imageset", *flags, "images/", "sq.txt", str(tmp_path / "db")]) == 0
    assert logged(capsys.readouterr().err)[0] == "Shuffling data"


def test_unreadable_images_are_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert-imageset", "images/", "odd.txt", str(tmp_path / "db")]) == 0
    assert "Could not open or find file images/not_there.png" in capsys.readouterr().err


def test_a_second_conversion_to_the_same_place_fails_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["convert-imageset", "images/", "sq.txt", str(tmp_path / "db")]
    assert main(words) == 0
    capsys.readouterr()
    assert main(words) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("caffecompat: error: ")
    assert "already exists" in last


def test_mean_of_a_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mean.binaryproto"
    assert main(["compute_image_mean", "-backend=lmdb", "db/square_lmdb", str(out)]) == 0
    assert out.read_bytes() == (DATA / "mean" / "square_lmdb.binaryproto").read_bytes()
    assert logged(capsys.readouterr().err) == [
        "Opened lmdb db/square_lmdb",
        "Starting iteration",
        "Processed 3 files.",
        f"Write to {out}",
        "Number of channels: 3",
        "mean_value channel [0]: 120.85",
        "mean_value channel [1]: 122.884",
        "mean_value channel [2]: 126.711",
    ]


def test_mean_without_a_file_only_tells(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compute-image-mean", "db/square_lmdb"]) == 0
    assert not any("Write" in line for line in logged(capsys.readouterr().err))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["convert-imageset", "images/", "nosuch.txt", "x"], "nosuch.txt: there is no such file"),
        (["convert-imageset", "--backend=nosuch", "images/", "sq.txt", "x"], "LEVELDB, LMDB"),
        (["compute-image-mean", "nosuch"], "nosuch: there is no database (from "),
        (["compute-image-mean", "db/mixed_lmdb"], "record 1 (key '00000001_mix1.png')"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_1(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if not PREFIX.match(line)]
    assert len(errors) == 1
    assert sentence in errors[0]


@pytest.mark.parametrize("verb", ["convert-imageset", "compute-image-mean"])
def test_bad_usage_is_exit_code_2(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--nosuch"]) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["convert_imageset", "compute_image_mean"])
def test_help_ends_in_an_example_and_loads_nothing_heavy(verb: str) -> None:
    program = (
        "import sys; from caffecompat.cli.main import main; main(sys.argv[1:]); "
        "print(sorted({'numpy', 'torch', 'google.protobuf', 'cv2', 'lmdb'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, verb, "--help"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "example:\n  caffecompat " in done.stdout
    assert done.stdout.endswith("[]\n")


def test_mean_and_colours_are_text_to_paste(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compute-image-mean", "--channels", "db/mixed_lmdb"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines if not line.startswith("#")] == ["mean_value"] * 3
    assert sum("colour_eigenvalue: " in line for line in lines) == 3


def test_the_kind_of_a_database_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compute-image-mean", "db/tables_leveldb"]) == 0
    assert "Opened leveldb" in capsys.readouterr().err.replace("LEVELDB", "leveldb")


def test_a_bar_on_a_terminal_and_lines_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from caffecompat.reporting import progress

    pytest.importorskip("tqdm", reason="tqdm (extra progress) is not installed")
    monkeypatch.setattr(progress, "bar_is_possible", lambda: True)
    assert main(["convert-imageset", "images/", "odd.txt", str(tmp_path / "db")]) == 0
    shown = capsys.readouterr().err
    assert "8/8" in shown
    assert "Could not open or find file" in shown
    assert "Processed" not in shown
    monkeypatch.setattr(progress, "_SECONDS_PER_LINE", 0.0)
    monkeypatch.setattr(progress, "bar_is_possible", lambda: False)
    assert main(["dataset", "info", "db/mixed_lmdb"]) == 0
    assert logged(capsys.readouterr().err) == ["6 of 6 records"]


def test_a_line_comes_after_two_seconds_and_then_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from caffecompat.reporting import progress

    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    for is_terminal, expected in ((False, [2, 12, 22]), (True, [2, 4, 6])):
        monkeypatch.setattr(progress.sys.stderr, "isatty", lambda answer=is_terminal: answer)
        caplog.clear()
        now[0] = 100.0
        lines = progress.ProgressLines("records")
        with caplog.at_level("INFO"):
            for second in range(30):
                now[0] = 100.0 + second
                lines(second, 30)
        assert caplog.messages[:3] == [
            f"{second} of 30 records, about {30 - second} seconds left" for second in expected
        ]

"""Databases that are refused: what the message says makes them readable."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffecompat.data.backends.database import open_database, resume_database
from caffecompat.errors import CaffeError, FormatError
from tests.data.backends.lmdb_files import edit, everything, made
from tests.data.databases import encoded_datum, write_records
from tests.data.interrupted_writing import RECORDS, begin, keys
from tests.net.nets import net

DAMAGED = r"^(.*): the unfinished database is damaged and cannot be resumed: "


def zeros_after_the_meta_pages(data: bytearray) -> None:
    data[8192:] = bytes(len(data) - 8192)


@pytest.mark.parametrize("resume", [False, True])
def test_an_unfinished_database_that_is_damaged(resume: bool, tmp_path: Path) -> None:
    target = tmp_path / "db"
    begin(target, RECORDS)
    edit(tmp_path / "db.unfinished", zeros_after_the_meta_pages)
    with pytest.raises(FormatError) as caught, resume_database(target, "LMDB", "purpose", True):
        pass
    found = re.search(f"{DAMAGED}.*; remove this folder and start again$", str(caught.value))
    assert found is not None
    shutil.rmtree(found[1])
    with resume_database(target, "LMDB", "purpose", resume) as writer:
        assert b"1" not in writer
        writer.write(RECORDS)
    assert keys(target) == [b"1", b"2"]


def as_of_32_bits(data: bytearray) -> None:
    """The beginning of a file of a machine with addresses of 32 bits."""
    magic = data[16:20]
    data[12:16] = magic
    data[16:20] = bytes(4)


def test_a_database_of_a_32_bit_machine(tmp_path: Path) -> None:
    """mdb_dump writes the same text on each machine."""
    records = made(tmp_path / "there", 50)
    shutil.copytree(tmp_path / "there", tmp_path / "copied")
    edit(tmp_path / "copied", as_of_32_bits)
    with pytest.raises(CaffeError) as caught:
        open_database(tmp_path / "copied")
    words = "it was written on a 32-bit machine, expected 64 bit; move it there with mdb_dump and "
    assert f"{words}here with mdb_load" in str(caught.value)
    if shutil.which("mdb_dump") is None or shutil.which("mdb_load") is None:
        pytest.skip("needs mdb_dump and mdb_load, of LMDB's tools")
    text = subprocess.run(
        ["mdb_dump", str(tmp_path / "there")], check=True, capture_output=True
    ).stdout
    (tmp_path / "here").mkdir()
    subprocess.run(["mdb_load", str(tmp_path / "here")], input=text, check=True)
    with open_database(tmp_path / "here") as database:
        assert everything(database) == records


def test_images_of_16_bit(tmp_path: Path) -> None:
    deep = np.arange(60, dtype=np.uint16).reshape(4, 5, 3) * 1000
    content = cv2.imencode(".png", deep)[1].tobytes()
    words = "16 bit per value, expected 8; set force_color or force_gray, or convert the images to "

    def text(values: bytes, settings: str) -> str:
        path = tmp_path / f"db{len(list(tmp_path.iterdir()))}"
        write_records(path, [encoded_datum(values)])
        return (
            "layer { name: 'one' type: 'Data' top: 'data' "
            f"data_param {{ source: '{path}' backend: LMDB batch_size: 1 }} "
            f"transform_param {{ {settings} }} }}"
        )

    with pytest.raises(CaffeError) as caught:
        net(text(content, "")).forward()
    assert f"{words}8 bit" in str(caught.value)
    eight = cv2.imencode(".png", (deep >> 8).astype(np.uint8))[1].tobytes()
    for values, settings, channels in (
        (content, "force_color: true", 3),
        (content, "force_gray: true", 1),
        (eight, "", 3),
    ):
        built = net(text(values, settings))
        built.forward()
        found = np.asarray(built.blobs["data"].data)
        assert found.shape == (1, channels, 4, 5)
        assert found.max() > 200

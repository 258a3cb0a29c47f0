"""Names of exported images come from keys, which anything may stand in."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest

from caffecompat.data.backends.database import create_database, open_database
from caffecompat.data.tools.export_images import export
from tests.data.databases import datum

DEEP = b"d/" * 200 + b"a"
KEYS = {
    "an image in the place of a folder": [b"a.png", b"a.png/b.png"],
    "a folder in the place of an image": [b"a/b.png", b"a"],
    "the list as a folder": [b"list.txt/a.png", b"list.txt"],
    "a long folder": [b"d" * 300 + b"/a.png"],
    "a deep folder": [DEEP],
    "out of the folder": [b"../a.png", b"/a.png", b"a/../../b.png"],
    "what ends a line": [b"a\nb.png 5", b"\xe2\x80\xa8.png", b"\0"],
}


@pytest.mark.parametrize("name", KEYS)
def test_every_key_has_its_image_in_the_folder(name: str, tmp_path: Path) -> None:
    with create_database(tmp_path / "source") as writer:
        pixels = np.arange(105).reshape(3, 5, 7)
        writer.write((key, datum(pixels, i)) for i, key in enumerate(sorted(KEYS[name])))
    target = tmp_path / "target"
    with open_database(str(tmp_path / "source")) as source:
        assert export(source, str(target)) == len(KEYS[name])
    lines = (target / "list.txt").read_bytes().splitlines()
    assert len(lines) == len(KEYS[name])
    files = {path for path in target.rglob("*") if path.is_file()} - {target / "list.txt"}
    assert files == {target / line.rsplit(b" ", 1)[0].decode() for line in lines}
    assert sorted(tmp_path.iterdir()) == [tmp_path / "source", target]
    assert all(len(path.relative_to(target).parts) <= 8 for path in files)


def test_all_files_are_on_the_disk_before_the_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with create_database(tmp_path / "source") as writer:
        writer.write((key, datum(np.zeros((3, 5, 7)))) for key in (b"a/b.png", b"c.png"))
    target = tmp_path / "target"
    synced: list[str] = []
    sync = os.fsync

    def recorded(descriptor: int) -> None:
        assert not target.exists()
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        sync(descriptor)

    with open_database(str(tmp_path / "source")) as source:
        monkeypatch.setattr(os, "fsync", recorded)
        with contextlib.suppress(AssertionError):  # of the folder above, once it has its name
            export(source, str(target))
    assert {"b.png", "c.png", "list.txt", "a"} <= set(synced)

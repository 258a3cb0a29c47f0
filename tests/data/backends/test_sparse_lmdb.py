"""The sparse databases of tools/bench/scale.py: a tree of three levels, read far apart."""

from __future__ import annotations

from pathlib import Path

import lmdb

from caffecompat.data.backends.database import open_database
from tools.bench.scale import write_database

RECORDS = 40_000


def test_jumps_find_the_records_that_lmdb_finds(tmp_path: Path) -> None:
    write_database(tmp_path, RECORDS)
    path = tmp_path / str(RECORDS)
    with (
        lmdb.open(str(path), readonly=True, lock=False, map_size=1 << 40) as theirs,
        theirs.begin() as transaction,
        open_database(path) as ours,
    ):
        assert theirs.stat()["depth"] == 3
        assert len(ours) == theirs.stat()["entries"] == RECORDS
        for place in (39_960, 31_200, 0, 20_280, 15_600, 9_360):
            key, value = ours.read(place)
            assert key == b"%08d" % (place)
            assert value == transaction.get(key)
        assert list(ours.keys())[::777] == [b"%08d" % place for place in range(0, RECORDS, 777)]

"""extract_features against the databases that BVLC Caffe 1.0 wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.data.backends.database import open_database
from caffecompat.data.codec.datum import parse_datum


def test_records(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = golden / "data" / "extract_features"
    monkeypatch.chdir(case)
    targets = ",".join(str(tmp_path / name) for name in ("conv_db", "feat_db"))
    words = ["w.caffemodel", "net.prototxt", "conv,feat", targets, "3", "lmdb"]
    assert main(["extract_features", *words]) == 0
    for name in ("conv_db", "feat_db"):
        with open_database(tmp_path / name) as found, open_database(case / name) as expected:
            assert len(found) == len(expected) == 9
            for index in range(9):
                key, value = found.read(index)
                expected_key, expected_value = expected.read(index)
                assert key == expected_key
                assert len(value) == len(expected_value)
                ours, theirs = parse_datum(value), parse_datum(expected_value)
                np.testing.assert_allclose(ours.float_data, theirs.float_data, atol=1e-5)
                ours.ClearField("float_data")
                theirs.ClearField("float_data")
                assert ours == theirs

"""The script that recorded pycaffe of BVLC Caffe 1.0 runs unchanged, and gives the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.programs import run_program

pytest.importorskip("skimage")
pytest.importorskip("cv2")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def written(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the script has filled."""
    folder = tmp_path_factory.mktemp("recorder")
    script = str(golden / "pycaffe" / "record.py")
    result = run_program(["-m", "caffecompat.run", "--quiet", script, str(folder / "out")], folder)
    assert result.returncode == 0, result.stderr
    return folder / "out"


def test_arrays(golden: Path, written: Path) -> None:
    with (
        np.load(golden / "pycaffe" / "pycaffe.npz") as expected,
        np.load(written / "pycaffe.npz") as found,
    ):
        # pycaffe fails to detect windows with the numpy that it was recorded with.
        assert set(found.files) - set(expected.files) == {"detector/prediction"}
        assert not set(expected.files) - set(found.files)
        for name in expected.files:
            assert found[name].dtype == expected[name].dtype, name
            largest = max(1, np.abs(expected[name]).max(initial=0))
            np.testing.assert_allclose(
                found[name], expected[name], rtol=1e-4, atol=1e-5 * largest, err_msg=name
            )


def facts(folder: Path) -> Any:
    return json.loads((folder / "pycaffe.json").read_text())


def test_facts(golden: Path, written: Path) -> None:
    """Names, orders, shapes, texts and calls; the sentences of mistakes are others."""
    expected, found = facts(golden / "pycaffe"), facts(written)
    for name in ("version", "transformer", "life"):
        assert found[name] == expected[name]
    for net in expected["nets"].values():
        net.pop("mistakes", None)
    for net in found["nets"].values():
        net.pop("mistakes", None)
    assert found["nets"] == expected["nets"]
    for kind, about in expected["solvers"].items():
        for name in ("cls", "iter", "lr", "test_nets", "callbacks", "snapshot", "param"):
            assert found["solvers"][kind][name] == about[name]
    for part in ("netspec", "coord_map"):
        texts = {k: v for k, v in expected[part].items() if "Error: " not in str(v)}
        assert {k: found[part][k] for k in texts} == texts
    assert set(expected["layer_type_list"]) <= set(found["layer_type_list"])
    for module, names in expected["surface"].items():
        # What pycaffe's modules import for themselves.
        assert set(names) - set(found["surface"][module]) <= {"division", "protobuf", "six"}


def test_files(golden: Path, written: Path) -> None:
    for name in ("blobproto.bin", "blobvector.bin", "datum_f.bin", "datum_u8.bin"):
        assert (written / name).read_bytes() == (golden / "pycaffe" / name).read_bytes()

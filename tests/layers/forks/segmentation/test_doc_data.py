"""DocData: pictures of documents with their labels."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.data.shard import Shard
from caffecompat.errors import CaffeError, DataError, FileProblem, LayerError
from caffecompat.layers import BuildOptions, Context, Source, catalogue
from tests.layers.forks.segmentation.documents import database, document, numbered
from tests.layers.messages import message

pytest.importorskip("lmdb")


def source(path: str, own: str = "", steps: str = "", tops: int = 1, **options: Any) -> Source:
    name = options.pop("name", "one")
    given = BuildOptions(**{"seed": 3, "workers": 1, **options})
    layer = catalogue.find("DocData")(Context("TRAIN", f"layer '{name}'", given))
    assert isinstance(layer, Source)
    settings = f"sources: '{path}' batch_size: 4 backend: LMDB {own}"
    body = f"doc_data_param {{ {settings} }} image_transform_param {{ {steps} }}"
    layer.setup(message("DocData", body, tops, name), [])
    return layer


def read(layer: Source, index: int = 0) -> list[np.ndarray]:
    found = layer.read(index)
    assert found is not None
    return [np.asarray(top) for top in found]


def first_values(layer: Source, batches: int = 4) -> list[int]:
    return [int(image[0, 0, 0]) for index in range(batches) for image in read(layer, index)[0]]


def test_records_in_their_order_with_labels(tmp_path: Path) -> None:
    images = numbered(6)
    records = [document(pixels, decade=k / 8 if k % 2 else None) for k, pixels in enumerate(images)]
    own = "label_names: 'country' label_names: 'decade' label_names: 'is_textual' missing_value: -7"
    layer = source(database(tmp_path, records), own, tops=4)
    assert layer.shapes == [(4, 1, 2, 3), (4,), (4,), (4,)]
    for index, numbers in ((0, [0, 1, 2, 3]), (1, [4, 5, 0, 1])):
        data, country, decade, textual = read(layer, index)
        assert np.array_equal(data, np.stack([images[n] for n in numbers]))
        assert country.tolist() == numbers
        assert decade.tolist() == [n / 8 if n % 2 else -7 for n in numbers]
        assert textual.tolist() == [-7] * 4


def test_encoded_images(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    images = numbered(4, 3)
    layer = source(database(tmp_path, [document(pixels, "png") for pixels in images]))
    assert np.array_equal(read(layer)[0], np.stack(images))


def test_steps_in_their_order(tmp_path: Path) -> None:
    images = numbered(4, 3)
    path = database(tmp_path, [document(pixels) for pixels in images])
    linear = "params { linear_params { shift: 127 scale: 0.5 } }"
    assert np.allclose(read(source(path, steps=linear))[0], (np.stack(images) - 127.0) / 2)
    each = "shift: 1 shift: 2 shift: 3 scale: 2"
    by_channel = read(source(path, steps=f"params {{ linear_params {{ {each} }} }}"))[0]
    shift = np.array([1, 2, 3]).reshape(3, 1, 1)
    assert np.allclose(by_channel, 2 * (np.stack(images) - shift))
    jitter = "params { color_jitter_params { sigma: 4 mean: 10 } }"
    many = database(tmp_path, [document(pixels) for pixels in numbered(200, 3)], "many")
    layer, plain = source(many, steps=linear + jitter), source(many, steps=linear)
    added = np.concatenate([read(layer, i)[0] - read(plain, i)[0] for i in range(50)])
    assert np.allclose(added, added[..., :1, :1], atol=1e-4)
    shown = added[..., 0, 0]
    assert abs(shown.mean() - 10) < 0.7
    assert abs(shown.std() - 4) < 0.5
    assert np.abs(np.corrcoef(shown.T) - np.eye(3)).max() < 0.3


def test_layers_of_one_seed_leave_out_the_same_records(tmp_path: Path) -> None:
    path = database(tmp_path, [document(pixels) for pixels in numbered(250)])
    own = "rand_advance_skip: 3 seed: 142"
    found = first_values(source(path, own), 8)
    assert found == first_values(source(path, own, name="two"), 8)
    steps = {(b - a) % 250 for a, b in pairwise(found)}
    assert steps == {1, 2, 3, 4}
    other = "rand_advance_skip: 3"
    assert first_values(source(path, other), 8) != first_values(source(path, other, name="two"), 8)
    assert found != first_values(source(path, own, seed=4), 8)
    assert first_values(source(path, "rand_skip: 200 seed: 142"), 1)[0] > 0
    # Far on, without the batches before.
    layer = source(path, own)
    late = first_values(source(path, own), 1100)[-4:]
    assert [int(image[0, 0, 0]) for image in read(layer, 1099)[0]] == late


def test_ranks_read_their_rows(tmp_path: Path) -> None:
    path = database(tmp_path, [document(pixels) for pixels in numbered()])
    own = "rand_advance_skip: 3 label_names: 'country'"
    whole = read(source(path, own, tops=2), 5)
    parts = [read(source(path, own, tops=2, shard=Shard(rank, 2)), 5) for rank in range(2)]
    for top in range(2):
        assert np.array_equal(np.concatenate([part[top] for part in parts]), whole[top])


@pytest.mark.parametrize(
    ("own", "steps", "tops", "sentence"),
    [
        ("sources: 'x'", "", 1, "it has 2 sources; only one source"),
        ("no_wrap: true", "", 1, "it has 1 source and no_wrap; only one"),
        ("label_names: 'decade'", "", 1, "it has 1 top and label_names has 1 value;"),
        ("label_names: 'colour'", "", 2, "no record has the label colour; known: actual_records"),
        ("", "params { }", 1, "params number 1 has no settings"),
        ("", "params { linear_params { shift: 1 shift: 2 } }", 1, "linear_params has 2 shift"),
    ],
)
def test_refused(tmp_path: Path, own: str, steps: str, tops: int, sentence: str) -> None:
    path = database(tmp_path, [document(pixels) for pixels in numbered(4)])
    with pytest.raises((LayerError, DataError), match=sentence):
        read(source(path, own, steps, tops))


def test_other_records_and_no_database(tmp_path: Path) -> None:
    short = document(np.zeros((1, 2, 3), np.uint8)).replace(b"\x18\x03", b"\x18\x04")
    with pytest.raises(DataError, match=r"is 1x2x4 .* but has 6 bytes"):
        source(database(tmp_path, [short]))
    with pytest.raises(DataError, match="not a DocumentDatum"):
        source(database(tmp_path, [b"\xff\xff\xff"], "other"))
    with pytest.raises(CaffeError):
        source(str(tmp_path / "gone"))
    with pytest.raises(FileProblem, match="only the records say it; state it with --shape t0="):
        source(str(tmp_path / "gone"), shapes_only=True)

"""Binary caffemodels: bytes pinned both ways, round trips, damage, memory."""

from __future__ import annotations

import os
import resource
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from caffecompat.errors import BlobError, CaffeError, FileProblem, FormatError, WeightsError
from caffecompat.weights import LayerWeights, Weights, load_weights, save_weights
from caffecompat.weights.encodings import wire

# name "n"; layer "c" of type "T", bottom "d", top "e", one blob of 2x1 with 1.0 and -2.0, TEST.
TINY = (
    b"\n\x01n"
    b"\xa2\x06\x20"
    b"\n\x01c\x12\x01T\x1a\x01d\x22\x01e"
    b":\x10*\x08\x00\x00\x80?\x00\x00\x00\xc0:\x04\n\x02\x02\x01"
    b"P\x01"
)
# The same layer in the old sizes num, channels, height, width; with a gradient.
TINY_LEGACY = (
    b"\xa2\x06\x24"
    b"\n\x01c\x12\x01T"
    b":\x1c\x08\x01\x10\x01\x18\x02\x20\x01*\x08\x00\x00\x80?\x00\x00\x00\xc02\x08" + b"\0" * 8
)
FLOATS = st.floats(width=32, allow_nan=True)
ARRAYS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=0, max_dims=5, max_side=4), elements=FLOATS
)
NAMES = st.text(st.characters(codec="utf-8"), max_size=12)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def blob(data: bytes) -> bytes:
    """A file with one layer "c" with one blob, given as its bytes."""
    layer = wire.text_field(1, "c") + wire.delimited(7, [data])
    return b"".join(wire.delimited(100, layer))


@pytest.fixture
def small() -> Weights:
    """About 300 bytes of caffemodel with everything a layer can have."""
    first = LayerWeights(
        "conv/1",
        "Convolution",
        [np.arange(12, dtype=np.float32).reshape(2, 3, 1, 2), np.array([0.5, -1], np.float32)],
        [np.ones((2, 3, 1, 2), np.float32), np.array([7, 8], np.float32)],
        bottoms=["data", "more"],
        tops=["conv"],
        phase=0,
    )
    second = LayerWeights(
        "fc", "InnerProduct", [np.full((1, 1, 2, 3), 2.5, np.float32)], legacy=[True]
    )
    return Weights([LayerWeights("data", "Input", tops=["data"], phase=1), first, second], "small")


def test_tiny_file_is_read(tmp_path: Path) -> None:
    weights = load_weights(write(tmp_path / "tiny.caffemodel", TINY))
    layer = weights["c"]
    assert weights.net_name == "n"
    assert (layer.type, layer.bottoms, layer.tops, layer.phase) == ("T", ["d"], ["e"], 1)
    assert layer.legacy == [False]
    assert layer.diffs is None
    np.testing.assert_array_equal(layer.blobs[0], np.array([[1], [-2]], np.float32))


def test_tiny_file_is_written(tmp_path: Path) -> None:
    layer = LayerWeights(
        "c", "T", [np.array([[1], [-2]], np.float32)], bottoms=["d"], tops=["e"], phase=1
    )
    save_weights(Weights([layer], "n"), tmp_path / "tiny.caffemodel")
    assert (tmp_path / "tiny.caffemodel").read_bytes() == TINY


def test_old_sizes_are_read_and_written(tmp_path: Path) -> None:
    weights = load_weights(write(tmp_path / "old.caffemodel", TINY_LEGACY))
    layer = weights["c"]
    assert layer.legacy == [True]
    assert layer.blobs[0].shape == (1, 1, 2, 1)
    assert layer.diffs is not None
    np.testing.assert_array_equal(layer.diffs[0], np.zeros((1, 1, 2, 1)))
    save_weights(weights, tmp_path / "again.caffemodel")
    assert (tmp_path / "again.caffemodel").read_bytes() == TINY_LEGACY


def test_plain_floats_are_views_into_the_file_that_cannot_change_it(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.caffemodel", TINY)
    array = load_weights(path)["c"].blobs[0]
    assert not array.flags.owndata
    array[...] = 77
    assert path.read_bytes() == TINY
    assert load_weights(path)["c"].blobs[0][0, 0] == 1


def test_saving_onto_the_file_that_is_mapped(tmp_path: Path, small: Weights) -> None:
    path = tmp_path / "own.caffemodel"
    save_weights(small, path)
    before = path.read_bytes()
    save_weights(load_weights(path), path)
    assert path.read_bytes() == before


@given(
    st.lists(
        st.builds(
            LayerWeights,
            name=NAMES,
            type=NAMES,
            blobs=st.lists(ARRAYS, max_size=3),
            bottoms=st.lists(NAMES, max_size=2),
            tops=st.lists(NAMES, max_size=2),
            phase=st.sampled_from([None, 0, 1]),
        ),
        min_size=1,
        max_size=3,
    ),
    NAMES,
)
@settings(max_examples=50, deadline=None)
def test_round_trip(layers: list[LayerWeights], net_name: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trip.caffemodel"
        save_weights(Weights(layers, net_name), path)
        back = load_weights(path)
    assert back.net_name == net_name
    for there, here in zip(back.layers, layers, strict=True):
        assert there.name == here.name
        assert there.type == here.type
        assert (there.bottoms, there.tops, there.phase) == (here.bottoms, here.tops, here.phase)
        assert [b.shape for b in there.blobs] == [b.shape for b in here.blobs]
        assert [b.tobytes() for b in there.blobs] == [b.tobytes() for b in here.blobs]


def test_gradients_and_old_sizes_survive(tmp_path: Path, small: Weights) -> None:
    save_weights(small, tmp_path / "small.caffemodel")
    back = load_weights(tmp_path / "small.caffemodel")
    diffs = back["conv/1"].diffs
    assert diffs is not None
    np.testing.assert_array_equal(diffs[1], [7, 8])
    assert back["fc"].legacy == [True]
    assert back["fc"].blobs[0].shape == (1, 1, 2, 3)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, ">f4"])
def test_other_numbers_and_orders_are_written_as_float32(dtype: str, tmp_path: Path) -> None:
    array = np.asfortranarray(np.arange(6, dtype=dtype).reshape(2, 3))
    save_weights(Weights([LayerWeights("c", "T", [array])]), tmp_path / "x.caffemodel")
    back = load_weights(tmp_path / "x.caffemodel")["c"].blobs[0]
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, np.arange(6).reshape(2, 3))


def test_what_we_write_a_protobuf_library_reads(tmp_path: Path, small: Weights) -> None:
    from caffecompat.proto.schema import message_class

    save_weights(small, tmp_path / "small.caffemodel")
    data = (tmp_path / "small.caffemodel").read_bytes()
    net = message_class("NetParameter").FromString(data)
    assert net.SerializeToString() == data
    assert [layer.name for layer in net.layer] == ["data", "conv/1", "fc"]
    assert list(net.layer[1].blobs[0].shape.dim) == [2, 3, 1, 2]
    assert list(net.layer[1].blobs[1].data) == [0.5, -1]
    assert (net.layer[2].blobs[0].height, net.layer[2].blobs[0].width) == (2, 3)
    assert net.layer[1].phase == 0
    assert net.layer[1].HasField("phase")


def test_file_cut_at_any_length_is_only_ever_a_caffe_error(tmp_path: Path, small: Weights) -> None:
    path = tmp_path / "small.caffemodel"
    save_weights(small, path)
    data = path.read_bytes()
    assert 200 < len(data) < 400
    loaded, messages = 0, []
    for length in range(len(data)):
        try:
            loaded += len(load_weights(write(path, data[:length])).layers) < 3
        except CaffeError as error:
            messages.append(str(error))
    # Cut exactly between two layers it is a whole file with fewer layers, here as in Caffe.
    assert loaded == 2
    assert len(messages) == len(data) - 2
    assert all(message.startswith(f"{path}: ") for message in messages)


def test_any_flipped_bit_is_only_ever_a_caffe_error(tmp_path: Path, small: Weights) -> None:
    path = tmp_path / "small.caffemodel"
    save_weights(small, path)
    data = bytearray(path.read_bytes())
    messages = []
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            for layer in load_weights(path).layers:
                assert sum(b.size for b in layer.blobs) < 1000
        except CaffeError as error:
            messages.append(str(error))
        data[bit // 8] ^= 1 << bit % 8
    assert len(messages) > 100
    assert all(message.startswith(f"{path}: ") for message in messages)
    assert not any("\n" in message for message in messages)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b":\x02\n\x00*\x04\0\0\x80?", None),
        (b"*\x04\0\0\x80?", None),
        (b":\x03\n\x01\x02*\x04\0\0\x80?", "holds 1 values, but its shape 2 needs 2"),
        (b":\x03\n\x01\x02", "holds 0 values, but its shape 2 needs 2"),
        (b":\x03\n\x01\x01*\x04\0\0\x80?2\x08" + b"\0" * 8, "has a diff of 2 values"),
        (b"\x20\x05*\x14" + b"\0" * 20, "its shape 0x0x0x5 needs 0"),
        (b":\x0c\n\x0a" + b"\xff" * 9 + b"\x01", "its shape is -1, with a negative extent"),
        (b":\x23\n\x21" + b"\x01" * 33 + b"*\x04\0\0\x80?", "has more than 32 axes"),
        (
            b":\x1d\n\x1b" + b"\x80" * 8 + b"\x01" + b"\x80" * 8 + b"\x01" + b"\x80" * 8 + b"\x01",
            "needs 374144419156711147060143317175368453031918731001856",
        ),
        (b":\x0c\n\x0a\0" + b"\xff" * 8 + b"\x7f", "its shape is invalid"),
    ],
)
def test_shapes_that_do_not_fit_the_values(
    data: bytes, sentence: str | None, tmp_path: Path
) -> None:
    path = write(tmp_path / "x.caffemodel", blob(data))
    if sentence is None:
        assert load_weights(path)["c"].blobs[0].shape == ()
        return
    with pytest.raises(FormatError) as caught:
        load_weights(path)
    assert sentence in str(caught.value)
    assert "layer 'c' (), blob 0" in str(caught.value)


def test_values_in_every_encoding_at_once(tmp_path: Path) -> None:
    """Packed pieces, loose values, fields in odd order, unknown fields of every wire type."""
    loose = b"".join(b"\x2d" + v.tobytes() for v in np.array([2, 3], "<f4"))
    unknown = b"\xf8\x07\x01\xf9\x07abcdefgh\xfd\x07abcd\xfa\x07\x01x\xfb\x07\xfc\x07"
    data = (
        b"*\x04\0\0\x80?"
        + loose
        + unknown
        + b"*\x04\0\0\x80@"
        + b":\x02\x08\x02"
        + b":\x02\x08\x02"
    )
    weights = load_weights(write(tmp_path / "x.caffemodel", unknown + blob(data) + unknown))
    np.testing.assert_array_equal(weights["c"].blobs[0], [[1, 2], [3, 4]])


def test_an_empty_double_list_does_not_hide_the_floats(tmp_path: Path) -> None:
    path = write(tmp_path / "x.caffemodel", blob(b"*\x04\0\0\x80?B\x00:\x02\x08\x01"))
    np.testing.assert_array_equal(load_weights(path)["c"].blobs[0], [1])


def test_unknown_type_number_of_a_fork_stays_visible(tmp_path: Path) -> None:
    layer = wire.text_field(4, "x") + wire.number_field(5, 44)
    path = write(tmp_path / "x.caffemodel", b"".join(wire.delimited(2, layer)))
    assert load_weights(path)["x"].type == "V1LayerType(44)"


def test_layers_of_one_name_are_all_kept_and_the_last_is_found(tmp_path: Path) -> None:
    arrays = [np.full(3, value, np.float32) for value in (1, 2)]
    save_weights(
        Weights([LayerWeights("a", "T", [array]) for array in arrays]), tmp_path / "x.caffemodel"
    )
    weights = load_weights(tmp_path / "x.caffemodel")
    assert (len(weights.layers), len(weights), list(weights)) == (2, 1, ["a"])
    assert weights["a"].blobs[0][0] == 2


def test_missing_layer_is_answered_with_the_nearest_name(small: Weights) -> None:
    small.path = "vgg.caffemodel"
    assert "fc" in small
    assert "fd" not in small
    with pytest.raises(BlobError, match=r"vgg.caffemodel: no layer 'conv1'; did you mean 'conv/1'"):
        small["conv1"]


def test_wrong_arrays_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "x.caffemodel"
    array = np.zeros((2, 3), np.float32)
    for layer, sentence in (
        (LayerWeights("a", "T", [array], legacy=[False, True]), "1 blobs, but 2 legacy flags"),
        (LayerWeights("a", "T", [array], [array.T]), "gradients of other shapes"),
        (LayerWeights("a", "T", [array.astype(str)]), "expected numbers"),
        (LayerWeights("\ud800", "T"), "surrogates not allowed"),
    ):
        with pytest.raises(WeightsError, match=sentence):
            save_weights(Weights([layer]), path)
    assert list(tmp_path.iterdir()) == []


def test_failed_writing_leaves_the_old_file(tmp_path: Path, small: Weights) -> None:
    path = write(tmp_path / "x.caffemodel", TINY)
    small.layers.append(LayerWeights("\ud800"))
    with pytest.raises(WeightsError):
        save_weights(small, path)
    assert path.read_bytes() == TINY
    with pytest.raises(FileProblem, match="no folder"):
        save_weights(Weights([LayerWeights("a")]), tmp_path / "none" / "x.caffemodel")


def test_three_gigabytes_cost_no_memory_until_they_are_looked_at(tmp_path: Path) -> None:
    """A sparse file: the values are holes, only their claimed length is real."""
    count = 750_000_000
    path = tmp_path / "huge.caffemodel"
    shape = b"".join(wire.delimited(7, wire.delimited(1, [wire.varint(count)])))
    payload = wire.varint(5 << 3 | wire.LENGTH) + wire.varint(4 * count)
    inside = shape + payload
    blob_head = wire.varint(7 << 3 | wire.LENGTH) + wire.varint(len(inside) + 4 * count) + inside
    layer_head = wire.varint(100 << 3 | wire.LENGTH) + wire.varint(len(blob_head) + 4 * count)
    path.write_bytes(layer_head + blob_head)
    os.truncate(path, len(layer_head) + len(blob_head) + 4 * count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        values = load_weights(path).layers[0].blobs[0]
        assert values.shape == (count,)
        assert values[-1] == 0
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    os.truncate(path, 100)
    del values
    with pytest.raises(FormatError, match=r"claims 300000\d+ bytes, but \d\d are left"):
        load_weights(path)

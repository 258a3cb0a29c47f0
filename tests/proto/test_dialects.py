"""Binary files by number: recognised, read and written under the right dialect, never by luck."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from caffecompat.cli.main import main
from caffecompat.errors import FileProblem, FormatError, NetError, UnknownName
from caffecompat.proto import files, schema
from caffecompat.proto.binary import dialects, nets
from caffecompat.proto.fork_fields import foreign_fields, foreign_settings
from caffecompat.proto.text.parser import parse_text
from caffecompat.weights import load_weights


def net(text: str) -> Any:
    return parse_text(text, "NetParameter")[0]


SSD = (
    "name: 's' layer { name: 'p' type: 'Permute' bottom: 'x' top: 'p' permute_param { order: [0,2, "
    "3, 1] } } layer { name: 'n' type: 'Normalize' bottom: 'p' norm_param { across_spatial: false "
    "scale_filler { type: 'constant' value: 20 } } } layer { name: 'd' type: 'AnnotatedData' "
    "transform_param { resize_param { prob: 0.5 height: 300 width: 200 interp_mode: AREA } } "
    "annotated_data_param { label_map_file: 'm' } }"
)
NVIDIA = (
    "layer { name: 'b' type: 'BatchNorm' forward_type: FLOAT16 batch_norm_param { scale_bias: true "
    "eps: 0.5 } } layer { name: 'd' type: 'Data' transform_param { img_rand_resize_lower: 256 "
    "resize_param { prob: 1 } } }"
)


def test_numbers_of_fork_fields_do_not_occur_in_files() -> None:
    layer = net(SSD).layer[0]
    numbers = [entry.number for entry, _ in layer.ListFields()]
    assert max(numbers) in schema.FORK_NUMBERS
    assert layer.permute_param.order == [0, 2, 3, 1]


@pytest.mark.parametrize(("text", "dialect"), [(SSD, "ssd"), (NVIDIA, "nvcaffe")])
def test_a_fork_is_written_by_its_numbers_and_recognised(
    tmp_path: Path, text: str, dialect: str
) -> None:
    path = tmp_path / "net.bin"
    files.write_binary(net(text), path, dialect)
    assert dialects.dialect_of(path.read_bytes()) == dialect
    found, source = nets.read_binary_net(path)
    assert found == net(text)
    assert source.notes == (f"read by the numbers of the dialect {dialect!r}",)
    assert files.read_binary(path, "NetParameter", dialect) == net(text)


def test_the_numbers_are_those_of_the_forks() -> None:
    data = dialects.to_dialect(net("layer { permute_param { order: 3 } }"), "ssd")
    # Field 100 of the net: layer; field 202 of the layer: permute_param; field 1 of that: order.
    assert data == b"\xa2\x06\x05" + b"\xd2\x0c\x02" + b"\x08\x03"
    transform = "layer { transform_param { img_rand_resize_upper: 7 } }"
    for dialect in ("bvlc", "nvcaffe"):
        assert dialects.to_dialect(net(transform), dialect).endswith(b"\x58\x07"), dialect
    with pytest.raises(
        FormatError, match=r"no number for TransformationParameter\.img_rand_resize"
    ):
        dialects.to_dialect(net(transform), "ssd")


def test_forks_fields_are_never_written_as_if_they_were_bvlc_s(tmp_path: Path) -> None:
    path = tmp_path / "net.bin"
    path.write_bytes(b"old")
    with pytest.raises(FormatError) as raised:
        files.write_binary(net(SSD), path)
    assert str(raised.value).startswith(
        f"{path}: in binary form the dialect 'bvlc' has no number for "
        "NetParameter.layer.permute_param, NetParameter.layer.norm_param, "
    )
    assert path.read_bytes() == b"old"
    value = "layer { pooling_param { pool: AVE_EXC_PAD } }"
    with pytest.raises(FormatError, match=r"pooling_param\.pool: AVE_EXC_PAD; write text"):
        files.write_binary(net(value), path)
    with pytest.raises(UnknownName, match="unknown dialect 'sdd'; did you mean 'ssd'"):
        files.write_binary(net(value), path, "sdd")


# A net with a field of a fork in a message of BVLC's, an enum value, and a layer type that no
# dialect explains, since it has the parameters of another one.
OWN = (
    "layer { name: 'p' type: 'Pooling' pooling_param { pool: AVE_EXC_PAD ceil_mode: false } } "
    "layer { name: 'y' type: 'MyOwn' permute_param { order: 1 } transform_param { scale: 2 } }"
)


def test_every_field_has_a_number_in_this_package_s_own_dialect(tmp_path: Path) -> None:
    path = tmp_path / "net.bin"
    files.write_binary(net(OWN), path, "caffecompat")
    data = path.read_bytes()
    assert dialects.dialect_of(data) == "caffecompat"
    found, source = nets.read_binary_net(path)
    assert found == net(OWN)
    assert source.notes == ("read by the numbers of the dialect 'caffecompat'",)
    again, dialect, _, _ = nets.upgrade_binary_net(path)
    assert dialects.to_dialect(again, dialect) == data
    # A number that nobody has: it may have another meaning for whoever wrote the file.
    strange = b"\x82\xfa\x01\x02\x08\x01"
    layer = data + b"\xa2\x06" + bytes([len(strange)]) + strange
    assert dialects.dialect_of(layer) == "unknown"


def test_bvlc_s_own_files_are_bvlc_s() -> None:
    plain = net(
        "layer { name: 'c' type: 'Convolution' convolution_param { num_output: 3 } } "
        "layer { name: 'm' type: 'MyOwn' transform_param { scale: 2 } }"
    )
    assert dialects.dialect_of(plain.SerializeToString()) == "bvlc"
    assert dialects.dialect_of(b"") == "bvlc"


# LayerParameter: name "r", type "ROIPooling", an empty blob, and a message in field 147, which is
# swish_param in BVLC Caffe and roi_pooling_param in some forks.
COLLIDING = b"\x0a\x01r\x12\x0aROIPooling" + b"\x3a\x00" + b"\x9a\x09\x02\x08\x07"


@pytest.mark.parametrize(
    "layer",
    [COLLIDING, b"\x0a\x01u\x12\x04ReLU" + b"\x3a\x00" + b"\x82\xfa\x01\x02\x08\x01"],
    ids=["a number with another meaning", "a number that nobody has"],
)
def test_of_an_unknown_dialect_only_the_common_fields_are_trusted(
    tmp_path: Path, layer: bytes
) -> None:
    data = b"\x0a\x01n\xa2\x06" + bytes([len(layer)]) + layer
    path = tmp_path / "fork.caffemodel"
    path.write_bytes(data)
    assert dialects.dialect_of(data) == "unknown"
    found, source = nets.read_binary_net(path)
    kept = [entry.name for entry, _ in found.layer[0].ListFields()]
    assert kept == ["name", "type", "blobs"]
    assert source.notes[0] == "this net follows none of the known dialects"
    assert source.notes[1].startswith("left out 1 fields")
    # Rewritten, nothing is lost: the numbers stay.
    again, dialect, told, notes = nets.upgrade_binary_net(path)
    assert (again.SerializeToString(), dialect, notes) == (data, "bvlc", [])
    assert told[1] == "parameters of forks' layer types are kept as they are"


# layers { layer { name "l" type "lrn" k (116) 2 } }, as the VGG group's Caffe wrote it.
VGG_LRN = b"\x12\x10\x0a\x0e" + b"\x0a\x01l" + b"\x12\x03lrn" + b"\xa5\x07\x00\x00\x00\x40"


def test_the_vgg_group_s_binary_nets(tmp_path: Path) -> None:
    path = tmp_path / "vgg.bin"
    path.write_bytes(VGG_LRN)
    assert dialects.dialect_of(path.read_bytes()) == "vgg2013"
    found, source = nets.read_binary_net(path)
    assert found == net("layer { name: 'l' type: 'LRN' lrn_param { k: 2 } }")
    assert source.notes[0] == "read by the numbers of the dialect 'vgg2013'"
    upgraded, dialect, _, notes = nets.upgrade_binary_net(path)
    assert (upgraded, dialect) == (found, "bvlc")
    assert len(notes) == 2


def test_other_files_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(FileProblem, match="there is no such file"):
        nets.read_binary_net(path)
    path.write_text("layer { name: 'a' }")
    with pytest.raises(FormatError, match=r"this is text \(perhaps a prototxt\), expected a bin"):
        nets.read_binary_net(path)
    path.write_bytes(net(SSD).SerializeToString()[:-2])
    with pytest.raises(FormatError, match="damaged, cut off"):
        nets.read_binary_net(path)
    path.write_bytes(net("layer { name: 'a' } layers { name: 'b' }").SerializeToString())
    with pytest.raises(NetError, match=r"file: the net has both layer \(e.g. 'a'\) and layers"):
        nets.read_binary_net(path)
    path.write_bytes(net("name: 'n'").SerializeToString())
    with pytest.raises(UnknownName, match="unknown dialect 'caffe2'"):
        nets.read_binary_net(path, "caffe2")


def test_everything_of_a_dialect_has_a_place_in_the_united_schema() -> None:
    for dialect in ("ssd", "nvcaffe", "vgg2013"):
        for name in schema.message_names(dialect):
            theirs = schema.message_class(name, dialect).DESCRIPTOR
            ours = schema.message_class(name).DESCRIPTOR.fields_by_name
            for entry in theirs.fields:
                assert ours[entry.name].type == entry.type, (dialect, name, entry.name)


def test_foreign_fields_are_named() -> None:
    mixed = net(
        "eltwise_mem_sharing: true layer { name: 'a' type: 'Pooling' pooling_param { ceil_mode: "
        "false } } layer { name: 'b' type: 'Pooling' pooling_param { ceil_mode: true pool: "
        "AVE_EXC_PAD } } layer { name: 'c' type: 'Permute' permute_param { order: 1 } } "
        "layer { type: 'Convolution' convolution_param { weight_filler { model_path: 'm' } } }"
    )
    assert foreign_fields(mixed) == [
        "layer.pooling_param.ceil_mode",
        "layer.pooling_param.pool: AVE_EXC_PAD",
        "layer.permute_param",
        "eltwise_mem_sharing",
    ]
    told = foreign_settings(mixed, lambda layer_type, one: "EXC_PAD" in one.path)
    # eltwise_mem_sharing does not change values.
    assert told[0].startswith("pooling_param.ceil_mode of 'a', 'b' is a field of other Caffe")
    assert len(told) == 1
    (outside,) = foreign_settings(net("bn_stats_batch_size: 4"), lambda layer_type, one: False)
    assert outside == (
        "bn_stats_batch_size: from the Caffe of Intel, where it takes the statistics of BatchNorm "
        "from parts of a batch; not supported, ignored"
    )


@pytest.mark.parametrize(
    ("layer_type", "kept", "lost"),
    [
        ("Normalize", "norm_param", "permute_param"),
        ("Permute", "permute_param", "norm_param"),
        ("Convolution", "permute_param", "norm_param"),
    ],
)
def test_a_layer_with_parameters_of_two_fork_types_keeps_those_of_its_own(
    tmp_path: Path, layer_type: str, kept: str, lost: str
) -> None:
    kind = schema.message_class("NetParameter", "ssd")
    layer: Any = {"name": "n", "type": layer_type, "permute_param": {"order": [1]}}
    data = kind(layer=[{**layer, "norm_param": {"eps": 0.5}}]).SerializeToString()
    path, rewritten = tmp_path / "net.bin", tmp_path / "rewritten.bin"
    path.write_bytes(data)
    sentence = (
        f"layer 'n' ({layer_type}): left out {lost}, since a layer can have only one of {kept} and "
        f"{lost}"
    )
    found, source = nets.read_binary_net(path, "ssd")
    assert [name for name in (kept, lost) if found.layer[0].HasField(name)] == [kept]
    assert sentence in source.notes
    with pytest.raises(FormatError, match=re.escape(sentence)):
        files.read_binary(path, "NetParameter", "ssd")
    if layer_type == "Convolution":
        # Of other types the dialect does not explain the file, so that they keep all numbers.
        net, dialect, notes, _ = nets.upgrade_binary_net(path)
        files.write_binary(net, rewritten, dialect)
        assert sentence in notes
        assert kind.FromString(rewritten.read_bytes()).layer[0].HasField("permute_param")


def test_a_list_for_a_single_field_goes_to_its_companion() -> None:
    for text in ("kernel_size: [3, 5, 2]", "kernel_size: 3 kernel_size: 5 kernel_size: 2"):
        pooling = net(f"layer {{ pooling_param {{ {text} }} }}").layer[0].pooling_param
        assert not pooling.HasField("kernel_size")
        assert pooling.kernel_size_list == [3, 5, 2]
    solver = parse_text("device_id: [0, 2]", "SolverParameter")[0]
    assert solver.device_id_list == [0, 2]
    assert foreign_fields(solver) == ["device_id_list"]
    plain = net("layer { pooling_param { kernel_size: 3 } }").layer[0].pooling_param
    assert (plain.kernel_size, len(plain.kernel_size_list)) == (3, 0)


def test_reading_loads_no_large_library() -> None:
    """The schema comes compiled, so that the first prototxt needs protobuf and nothing else."""
    program = (
        "import sys\n"
        "from caffecompat.proto.text.parser import parse_text\n"
        "parse_text(\"layer { name: 'a' permute_param { order: 1 } }\", 'NetParameter')\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    folder = Path(__file__).resolve().parents[2]
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=folder, check=True
    )
    loaded = set(result.stdout.split())
    assert "google" in loaded
    assert not loaded & {"torch", "numpy", "h5py", "cv2", "lmdb", "grpc_tools", "grpc", "tqdm"}


def garbage_net(field: int, layers: str = "layer") -> bytes:
    """A net of one layer with a blob, and text where BVLC's schema has a message of settings."""
    net = schema.new("NetParameter")
    net.name = "forked"
    layer = getattr(net, layers).add()
    layer.name = "ip"
    if layers == "layer":
        layer.type = "InnerProduct"
    layer.blobs.add(data=[1.5, 2.5]).shape.dim.append(2)
    text = b"\xff\xff\xff"
    tag = field << 3 | 2
    layer_bytes = layer.SerializeToString() + bytes([tag & 127 | 128, tag >> 7, len(text)]) + text
    net.ClearField(layers)
    number = schema.message_class("NetParameter").DESCRIPTOR.fields_by_name[layers].number
    tag = number << 3 | 2
    head = bytes([tag & 127 | 128, tag >> 7]) if tag > 127 else bytes([tag])
    return net.SerializeToString() + head + bytes([len(layer_bytes)]) + layer_bytes


@pytest.mark.parametrize(
    ("field", "name"), [(146, "recurrent_param"), (117, "inner_product_param")]
)
def test_garbage_of_a_fork_at_a_number_of_bvlc(tmp_path: Path, field: int, name: str) -> None:
    path = tmp_path / "forked.caffemodel"
    path.write_bytes(garbage_net(field))
    net, dialect, told, _ = nets.upgrade_binary_net(path)
    assert dialect == dialects.BVLC
    assert [list(layer.blobs[0].data) for layer in net.layer] == [[1.5, 2.5]]
    sentence = f"left out {name} of layer 'ip': its content is not what BVLC's schema says"
    assert any(line.startswith(sentence) for line in told)
    net, source = nets.read_binary_net(path)
    assert [layer.name for layer in net.layer] == ["ip"]
    assert any(line.startswith(sentence) for line in source.notes)
    target = tmp_path / "new.caffemodel"
    assert main(["upgrade-net", str(path), str(target)]) == 0
    assert [list(blob) for blob in load_weights(target)["ip"].blobs] == [[1.5, 2.5]]
    assert main(["inspect", str(path)]) == 0


def test_garbage_in_old_layers_and_in_what_all_agree_on(tmp_path: Path) -> None:
    path = tmp_path / "forked.caffemodel"
    path.write_bytes(garbage_net(17, "layers"))
    net, _, told, _ = nets.upgrade_binary_net(path)
    assert [list(layer.blobs[0].data) for layer in net.layer] == [[1.5, 2.5]]
    assert any(line.startswith("left out inner_product_param of layer 'ip'") for line in told)
    path.write_bytes(garbage_net(7))
    with pytest.raises(FormatError, match=r"forked\.caffemodel: .* damaged, cut off"):
        nets.upgrade_binary_net(path)


def test_a_net_without_what_the_schema_requires_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = net("layer { name: 'c' type: 'Clip' clip_param { min: 0 max: 1 } }")
    damaged.layer[0].clip_param.ClearField("max")
    source, target = tmp_path / "x.caffemodel", tmp_path / "new.caffemodel"
    source.write_bytes(damaged.SerializePartialToString())
    assert main(["upgrade-net", "--binary", str(source), str(target)]) == 1
    told = capsys.readouterr().err
    assert f"{target}: it would lack layer[0].clip_param.max" in told
    assert told.count("\n") == 1
    assert not target.exists()

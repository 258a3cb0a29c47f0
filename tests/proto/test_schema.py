"""The schema equals the recorded facts of BVLC Caffe 1.0, and lives in a pool of its own."""

from __future__ import annotations

import csv
import re
import struct
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto

from caffecompat.errors import UnknownName
from caffecompat.proto import schema

REPOSITORY = Path(__file__).resolve().parents[2]
EXTENSIONS = range(5000, 6000)


def table() -> tuple[dict[tuple[str, str], tuple[str, ...]], dict[str, dict[str, int]]]:
    """The fields (message, name) -> number, label, type, type name, default, options; the enums."""
    fields: dict[tuple[str, str], tuple[str, ...]] = {}
    enums: dict[str, dict[str, int]] = {}
    for line in Path(__file__).with_name("schema_bvlc.tsv").read_text().splitlines()[2:]:
        kind, owner, name, number, *facts = line.split("\t")
        if kind == "field":
            fields[owner, name] = (number, *facts)
        else:
            enums.setdefault(owner, {})[name] = int(number)
    return fields, enums


def float32(text: str) -> float:
    return float(struct.unpack("<f", struct.pack("<f", float(text)))[0])


def declaration(entry: Any) -> Any:
    """The field as the compiler put it down, whose interface is the same in all of protobuf."""
    message = DescriptorProto()
    entry.containing_type.CopyToProto(message)
    return next(field for field in message.field if field.name == entry.name)


def label_of(entry: Any) -> str:
    labels = {1: "optional", 2: "required", 3: "repeated"}
    return labels[declaration(entry).label]


def type_name(entry: Any) -> str:
    names = ("double", "float", "int64", "uint64", "int32", "bool", "string", "message", "bytes")
    kinds = {getattr(entry, f"TYPE_{name.upper()}"): name for name in (*names, "uint32", "enum")}
    return kinds[entry.type]


def default_agrees(entry: Any, recorded: str) -> bool:
    if recorded == "":
        return not entry.has_default_value
    if entry.enum_type is not None:
        return bool(entry.default_value == entry.enum_type.values_by_name[recorded].number)
    if isinstance(entry.default_value, bool):
        return bool(entry.default_value is (recorded == "true"))
    if isinstance(entry.default_value, str):
        return bool(entry.default_value == recorded.strip("'"))
    return bool(entry.default_value == float32(recorded))


def descriptors() -> dict[str, Any]:
    return {name: schema.message_class(name).DESCRIPTOR for name in schema.message_names()}


def test_every_field_is_as_recorded() -> None:
    fields, _ = table()
    assert len(fields) > 400
    for (owner, name), facts in fields.items():
        number, label, kind, referred, default, options = facts
        entry = descriptors()[owner].fields_by_name[name]
        place = f"{owner}.{name}"
        assert entry.number == int(number), place
        assert label_of(entry) == label, place
        assert type_name(entry) == kind, place
        target = entry.message_type or entry.enum_type
        assert (target.full_name if target else "") == referred, place
        assert declaration(entry).options.packed == (options == "packed"), place
        assert default_agrees(entry, default), place


# Fields of forks that caffe.proto itself declares, with the forks' numbers.
BORROWED = {
    ("SolverParameter", "plateau_winsize"): 43,
    ("SolverState", "minimum_loss"): 5,
    ("SolverState", "iter_last_event"): 6,
    ("TransformationParameter", "img_rand_resize_lower"): 10,
    ("TransformationParameter", "img_rand_resize_upper"): 11,
}


def fork_rows() -> list[dict[str, str]]:
    lines = (REPOSITORY / "proto" / "forks.tsv").read_text().splitlines()
    return list(csv.DictReader((x for x in lines if not x.startswith("#")), delimiter="\t"))


def declared_in_source() -> set[tuple[str, str, str, str]]:
    """Owner, label, name and number in proto/caffe.proto, read plainly: no compiler is needed."""
    source = re.sub(r"//[^\n]*", "", (REPOSITORY / "proto" / "caffe.proto").read_text())
    declared = set()
    for owner, body in re.findall(r"^message (\w+) \{(.*?)^\}", source, re.DOTALL | re.MULTILINE):
        pattern = r"(optional|repeated|required) [\w.]+ (\w+) = (\d+)"
        declared |= {(owner, *groups) for groups in re.findall(pattern, body)}
    return declared


def test_the_source_adds_nothing_to_bvlc_but_marked_extensions() -> None:
    fields, _ = table()
    added = {
        (owner, name): int(number)
        for owner, _, name, number in declared_in_source()
        if (owner, name) not in fields
    }
    assert BORROWED.items() <= added.items()
    assert all(added[key] in EXTENSIONS for key in added.keys() - BORROWED.keys())
    assert ("SolverState", "random_seed") in added
    page = (REPOSITORY / "docs" / "extensions.md").read_text()
    assert [name for _, name in added if f"`{name}`" not in page] == []


def test_the_united_schema_is_the_source_and_the_forks() -> None:
    united = {
        (owner, label_of(e), e.name, str(e.number))
        for owner, descriptor in descriptors().items()
        for e in descriptor.fields
    }
    rows = [row for row in fork_rows() if row["number"] and not row["message"].startswith("enum ")]
    forks = {(r["message"], r["label"], r["name"], r["number"]) for r in rows}
    assert united == declared_in_source() | forks
    fields, _ = table()
    bvlc = {owner for owner, _ in fields}
    for owner, _, name, number in forks:
        assert (int(number) in schema.FORK_NUMBERS) or owner not in bvlc, (owner, name)


def test_every_enum_is_as_recorded_and_forks_values_are_apart() -> None:
    _, enums = table()
    assert len(enums) > 20
    for name, values in enums.items():
        found = schema.enum_names(name)
        assert {key: found[key] for key in values} == values, name
        more = {found[key] for key in found.keys() - values.keys()}
        assert all(number in schema.FORK_NUMBERS for number in more), name
    assert "AVE_EXC_PAD" in schema.enum_names("PoolingParameter.PoolMethod")


def exclusive_fields() -> set[str]:
    rows = [row for row in fork_rows() if row["options"] == "exclusive"]
    assert {row["message"] for row in rows} == {"LayerParameter"}
    return {row["name"] for row in rows}


def test_exclusive_fields_share_one_place() -> None:
    (group,) = descriptors()["LayerParameter"].oneofs
    assert {entry.name for entry in group.fields} == exclusive_fields()
    assert all(entry.number in schema.FORK_NUMBERS for entry in group.fields)
    assert [name for name, one in descriptors().items() if one.oneofs] == ["LayerParameter"]
    for dialect in ("ssd", "nvcaffe"):
        assert not schema.message_class("LayerParameter", dialect).DESCRIPTOR.oneofs


def test_no_number_means_two_things_in_a_dialect() -> None:
    columns = ("number", "ssd", "nvcaffe", "vgg2013")
    for column in columns:
        taken: dict[tuple[str, str], str] = {}
        for row in fork_rows():
            if row[column] and row["name"]:
                key = (row["message"], row[column])
                assert key not in taken, (column, *key, row["name"], taken[key])
                taken[key] = row["name"]


def test_what_two_forks_define_can_be_read(golden: Path) -> None:
    """The recorded facts of the forks, beside this checkout; older layouts are V1LayerParameter."""
    lines = (golden.parent / "schema" / "forks.tsv").read_text().splitlines()
    rows = csv.DictReader((x for x in lines if not x.startswith("#")), delimiter="\t")
    count = 0
    for row in rows:
        of_2013 = set(row["where"].split(",")) <= {"huangzehao/caffe-vdsr", "vlfeat/matconvnet"}
        if row["message"].startswith("enum ") or int(row["repos"]) < 2 or of_2013:
            continue
        owner = row["message"]
        if owner not in schema.message_names():
            continue  # never used by a field of a net or solver
        fields = set(schema.message_class(owner).DESCRIPTOR.fields_by_name)
        old = set(schema.message_class("V1LayerParameter").DESCRIPTOR.fields_by_name)
        assert row["name"] in (fields | old if owner == "LayerParameter" else fields), row
        count += 1
    assert count > 600


def test_messages_and_enums_by_name() -> None:
    from caffecompat.proto import caffe_pb2

    net = caffe_pb2.NetParameter(name="net")
    assert type(net) is schema.message_class("NetParameter")
    assert (caffe_pb2.TRAIN, caffe_pb2.Phase.Name(caffe_pb2.TEST)) == (0, "TEST")
    assert {"NetParameter", "Phase", "TEST", "DESCRIPTOR"} <= set(dir(caffe_pb2))
    with pytest.raises(AttributeError, match="no attribute 'NetParametr'"):
        _ = caffe_pb2.NetParametr  # type: ignore[attr-defined]


def test_the_descriptor_set_and_the_stubs_are_fresh() -> None:
    pytest.importorskip("grpc_tools", reason="the protobuf compiler (grpcio-tools) is missing")
    command = [sys.executable, str(REPOSITORY / "tools" / "generate_schema.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    said = result.stdout + result.stderr
    assert "caffe.binpb is up to date" in said
    # Compilers of other versions write the same stubs in other words.
    constraints = (REPOSITORY / "constraints.txt").read_text()
    if f"grpcio-tools=={version('grpcio-tools')}\n" in constraints:
        assert result.returncode == 0, said


def test_lives_beside_another_schema_of_the_same_names() -> None:
    """A process that has imported another caffe_pb2 holds its messages in the default pool."""
    program = """
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
other = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
message = other.message_type.add(name="NetParameter")
message.field.add(name="name", number=7, label=1, type=5)
descriptor_pool.Default().AddSerializedFile(other.SerializeToString())
found = descriptor_pool.Default().FindMessageTypeByName("caffe.NetParameter")
theirs = message_factory.GetMessageClass(found)(name=3)
from caffecompat.proto import schema
ours = schema.message_class("NetParameter")(name="a net")
assert ours.SerializeToString() == b"\\n\\x05a net", ours
assert theirs.SerializeToString() == b"8\\x03", theirs
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=REPOSITORY)


def test_importing_proto_loads_neither_protobuf_nor_numpy() -> None:
    program = """
import sys, caffecompat.proto, caffecompat.proto.files, caffecompat.proto.schema
heavy = {"google.protobuf", "numpy", "torch"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=REPOSITORY)


def test_an_unknown_message_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"unknown message 'NetParam'; did you mean 'NetPar"):
        schema.new("NetParam")
    with pytest.raises(UnknownName, match="unknown enum 'Pool'"):
        schema.enum_names("Pool")


def test_defaults_come_from_the_schema() -> None:
    layer = schema.new("LayerParameter")
    assert layer.lrn_param.local_size == 5
    assert layer.lrn_param.beta == 0.75
    assert layer.pooling_param.pool == schema.enum_names("PoolingParameter.PoolMethod")["MAX"]
    assert schema.new("SolverParameter").type == "SGD"

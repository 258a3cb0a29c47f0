#!/usr/bin/env python3
"""Make the descriptor set and the type stubs that the package carries, from proto/.

The sources are proto/caffe.proto and proto/forks.tsv. The set holds the united schema, by which
text is read, and one schema for each dialect of binary files; the stubs tell type checkers the
messages of the united schema. Needs grpcio-tools, which brings the protobuf compiler::

    pip install grpcio-tools
    python tools/generate_schema.py            # writes caffecompat/proto/caffe.binpb, caffe_pb2.pyi
    python tools/generate_schema.py --check    # exit code 1 when one of them is stale
"""

from __future__ import annotations

import argparse
import csv
import keyword
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "proto" / "caffe.proto"
FORKS = REPOSITORY / "proto" / "forks.tsv"
TARGET = REPOSITORY / "caffecompat" / "proto" / "caffe.binpb"
STUBS = TARGET.with_name("caffe_pb2.pyi")
DIALECTS = ("ssd", "nvcaffe", "vgg2013")
UNITED = "united"
ENUM = "enum "
# The oneof of the fields that are marked as exclusive.
EXCLUSIVE = "fork_layer_param"


@dataclass(frozen=True)
class Row:
    """A line of forks.tsv: a field (``owner`` is a message) or an enum value (an enum).

    ``numbers`` holds the number in the united schema and in each dialect that has the field.
    """

    owner: str
    is_value: bool
    name: str
    label: str
    type: str
    type_name: str
    default: str
    packed: bool
    exclusive: bool
    numbers: dict[str, int]
    declared: bool


def read_rows(path: Path) -> list[Row]:
    """The rows of forks.tsv.

    Raises:
        SystemExit: a field is listed twice.
    """
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    rows, seen = [], set()
    for entry in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
        key = (entry["message"], entry["name"])
        if key in seen:
            raise SystemExit(f"{path}: {' '.join(key)} is listed twice")
        seen.add(key)
        columns = {UNITED: "number", **{dialect: dialect for dialect in DIALECTS}}
        rows.append(
            Row(
                entry["message"].removeprefix(ENUM),
                entry["message"].startswith(ENUM),
                entry["name"],
                entry["label"],
                entry["type"],
                entry["type_name"],
                entry["default"],
                entry["options"] == "packed",
                entry["options"] == "exclusive",
                {kind: int(entry[column]) for kind, column in columns.items() if entry[column]},
                not entry["number"],
            )
        )
    return rows


def compile_source(source: Path) -> Any:
    """The FileDescriptorProto of ``source``, without comments and positions.

    Raises:
        SystemExit: grpcio-tools is missing, or the compiler refuses the file (it says why).
    """
    try:
        from grpc_tools import protoc
    except ImportError:
        raise SystemExit("the protobuf compiler is missing: pip install grpcio-tools") from None
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "schema.binpb"
        status = protoc.main(
            ["protoc", f"-I{source.parent}", f"--descriptor_set_out={output}", source.name]
        )
        if status != 0:
            raise SystemExit(f"{source}: the protobuf compiler refuses it, see above")
        return FileDescriptorSet.FromString(output.read_bytes()).file[0]


class Schema:
    """``base`` and the rows that have a number of one kind (united or a dialect).

    In a dialect a number means what the dialect says: a field of ``base`` with the same number is
    left out, one with another number there is renumbered.
    """

    def __init__(self, base: Any, rows: list[Row], kind: str) -> None:
        from google.protobuf.descriptor_pb2 import FileDescriptorProto

        self._kind = kind
        self.file = FileDescriptorProto()
        self.file.CopyFrom(base)
        if kind != UNITED:
            self.file.name = f"{kind}.proto"
        self._messages = {message.name: message for message in self.file.message_type}
        self._enums = dict(self._all_enums())
        rows = [row for row in rows if kind in row.numbers or not row.name]
        self._add_messages({row.owner for row in rows if not row.is_value})
        self._add_values([row for row in rows if row.is_value and self._has_room(row.owner)])
        self._add_fields([row for row in rows if not row.is_value and row.name])

    def _all_enums(self) -> Iterator[tuple[str, Any]]:
        for enum in self.file.enum_type:
            yield enum.name, enum
        for message in self.file.message_type:
            for enum in message.enum_type:
                yield f"{message.name}.{enum.name}", enum

    def _add_messages(self, names: set[str]) -> None:
        for name in sorted(names - set(self._messages)):
            self._messages[name] = self.file.message_type.add(name=name)

    def _has_room(self, enum: str) -> bool:
        """Whether the message around an enum is there; a dialect may lack it."""
        owner = enum.rpartition(".")[0]
        return not owner or owner in self._messages

    def _add_values(self, rows: list[Row]) -> None:
        for row in rows:
            enum = self._enums.get(row.owner) or self._new_enum(row.owner)
            number = row.numbers[self._kind]
            kept = [v for v in enum.value if v.number != number or v.name == row.name]
            _replace(enum.value, [v for v in kept if v.name != row.name])
            enum.value.add(name=row.name, number=number)

    def _new_enum(self, name: str) -> Any:
        owner, _, inner = name.rpartition(".")
        parent = self._messages[owner].enum_type if owner else self.file.enum_type
        self._enums[name] = parent.add(name=inner)
        return self._enums[name]

    def _add_fields(self, rows: list[Row]) -> None:
        fields: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            fields[row.owner].append(row)
        for owner, mine in sorted(fields.items()):
            message = self._messages[owner]
            here = {field.name: field for field in message.field}
            taken = {row.numbers[self._kind] for row in mine}
            names = {row.name for row in mine}
            _replace(
                message.field,
                [f for f in message.field if f.name not in names and f.number not in taken],
            )
            # The compiler wants the members of a oneof side by side.
            for row in sorted(mine, key=lambda row: row.exclusive):
                self._add_field(message, row, here.get(row.name))

    def _add_field(self, message: Any, row: Row, declared: Any | None) -> None:
        number = row.numbers[self._kind]
        if row.declared:
            if declared is None:
                raise SystemExit(f"{FORKS}: {row.owner} has no {row.name} in {SOURCE.name}")
            message.field.add().CopyFrom(declared)
            message.field[-1].number = number
            return
        if declared is not None:
            raise SystemExit(f"{FORKS}: {SOURCE.name} declares {row.owner}.{row.name} itself")
        field = message.field.add(name=row.name, number=number)
        field.label = field.Label.Value(f"LABEL_{row.label.upper()}")
        field.type = field.Type.Value(f"TYPE_{row.type.upper()}")
        if row.type_name:
            self._check_type(row)
            field.type_name = f".{self.file.package}.{row.type_name}"
        if row.default:
            field.default_value = row.default
        if row.packed:
            field.options.packed = True
        if row.exclusive and self._kind == UNITED:
            self._make_exclusive(message, field)

    def _make_exclusive(self, message: Any, field: Any) -> None:
        """Make a field a member of the message's oneof; binary files may set several of them."""
        if not message.oneof_decl:
            message.oneof_decl.add(name=EXCLUSIVE)
        field.oneof_index = 0

    def _check_type(self, row: Row) -> None:
        known = self._messages if row.type == "message" else self._enums
        if row.type_name not in known:
            raise SystemExit(f"{FORKS}: {row.owner}.{row.name}: there is no {row.type_name}")


def _replace(repeated: Any, kept: list[Any]) -> None:
    copies = [type(entry).FromString(entry.SerializeToString()) for entry in kept]
    del repeated[:]
    repeated.extend(copies)


def build(source: Path = SOURCE, forks: Path = FORKS) -> bytes:
    """The serialised FileDescriptorSet: the united schema first, then the dialects in order.

    Raises:
        SystemExit: the sources contradict each other, or the compiler is missing.
    """
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    base, rows = compile_source(source), read_rows(forks)
    schemas = [Schema(base, rows, kind).file for kind in (UNITED, *DIALECTS)]
    for file in schemas:
        _check(file)
    return bytes(FileDescriptorSet(file=schemas).SerializeToString(deterministic=True))


def stubs(descriptors: bytes) -> bytes:
    """The type stubs of the united schema, from the descriptor set that holds it.

    Raises:
        SystemExit: the compiler is missing or fails.
    """
    try:
        from grpc_tools import protoc
    except ImportError:
        raise SystemExit("this needs the protobuf compiler: pip install grpcio-tools") from None
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    # One schema alone: the dialects' messages have the same names.
    schemas = FileDescriptorSet.FromString(descriptors)
    del schemas.file[1:]
    with tempfile.TemporaryDirectory() as folder:
        united = Path(folder) / "united.binpb"
        united.write_bytes(schemas.SerializeToString())
        options = [f"--descriptor_set_in={united}", f"--pyi_out={folder}"]
        if protoc.main(["protoc", *options, "caffe.proto"]) != 0:
            raise SystemExit(f"{STUBS.name}: the compiler failed, see above")
        lines = (Path(folder) / STUBS.name).read_text().splitlines(keepends=True)
    # The compiler declares an enum value called None too, which Python's grammar does not have.
    kept = [line for line in lines if not keyword.iskeyword(line.strip().partition(":")[0])]
    return "".join(kept).encode()


def _check(file: Any) -> None:
    from google.protobuf.descriptor_pool import DescriptorPool

    try:
        pool = DescriptorPool()
        pool.AddSerializedFile(file.SerializeToString())
        pool.FindFileByName(file.name)
    except (TypeError, KeyError) as error:
        raise SystemExit(f"{FORKS}: {file.name}: {error}") from None


def main(arguments: list[str] | None = None) -> int:
    """Write the descriptor set and the stubs, or compare them; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 when stale")
    options = parser.parse_args(arguments)
    descriptors = build()
    stale = False
    for target, fresh in ((TARGET, descriptors), (STUBS, stubs(descriptors))):
        name = target.relative_to(REPOSITORY)
        if not options.check:
            target.write_bytes(fresh)
            print(f"wrote {name} ({len(fresh)} bytes)")
        elif target.is_file() and target.read_bytes() == fresh:
            print(f"{name} is up to date")
        else:
            print(f"{name} is stale: run tools/generate_schema.py")
            stale = True
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())

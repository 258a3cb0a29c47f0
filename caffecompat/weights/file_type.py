"""Recognition of files that are not weight files, for error messages."""

from __future__ import annotations

import re
import shlex
import zlib
from pathlib import Path

from caffecompat.errors import FormatError
from caffecompat.proto.wrong_files import looks_like_text, wrong_text
from caffecompat.weights.encodings import wire
from caffecompat.weights.encodings.zip_checks import zip_names

SOLVER_STATE = "a solver state"
SNAPSHOT_HINT = "pass it as the snapshot (train --snapshot), or load the weights that it names"
SINGLE_ARRAY = (
    "a single array (a mean file?), which commands take with --mean and Python reads with "
    "caffecompat.weights.read_mean"
)

_GZIP = b"\x1f\x8b"
_GZIP_FORM = 16 + zlib.MAX_WBITS
_MAGIC = (
    (_GZIP, "a gzip archive; unpack it first: gunzip -c {file} > unpacked.caffemodel"),
    (b"BZh", "a bzip2 archive; unpack it first"),
    (b"\xfd7zXZ\x00", "an xz archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it first"),
    (b"\x93NUMPY", "a single NumPy array; weights need an .npz with keys layer/index"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"%PDF", "a PDF document"),
    (b"\xff\xfe", "UTF-16 text; save it as UTF-8 for caffecompat inspect to read it"),
    (b"\xfe\xff", "UTF-16 text; save it as UTF-8 for caffecompat inspect to read it"),
    (b"MATLAB ", "a MATLAB file; caffecompat convert reads those of MatConvNet"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
)
# The first keys of a NetParameter: of name, layers, input or layer.
_NET_KEYS = tuple(wire.varint(number << 3 | wire.LENGTH) for number in (1, 2, 3, 100))
# The first keys of a BlobProto that begins with its values or its shape; no net begins with them.
_BLOB_KEYS = tuple(wire.varint(number << 3 | wire.LENGTH) for number in (5, 7))
_LMDB_MARK = slice(16, 20)
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_TAR_MARK = slice(257, 262)
_PROTOTXT = re.compile(r"^\s*(layers?|name|input|net|train_net|base_lr)\s*[:{]", re.MULTILINE)


def other_file_type(head: bytes, path: Path) -> str | None:
    """The type of a file in words, by its first bytes; None if it may be a caffemodel.

    Args:
        head: the first few thousand bytes, or the whole file.
        path: its path, to list the members of zip archives.
    """
    if _begins_tar(head) or _begins_tar(_inflated(head)):
        return f"a tar archive; unpack it first: tar xf {shlex.quote(str(path))}"
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind.format(file=shlex.quote(str(path)))
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_kind(path)
    if head[_LMDB_MARK] == b"\xde\xc0\xef\xbe":
        return "an LMDB database"
    if _PICKLE.match(head):
        return "a Python pickle, which is never opened because it may run code"
    if looks_like_text(head):
        return _text_kind(head.decode("utf-8", "replace"))
    if path.suffix.lower() == ".onnx":
        return (
            "an ONNX model, which is written and verified here, but not read as a source; "
            "a module of torch, such as onnx2torch makes of it, becomes a Caffe model by "
            "caffecompat.export.from_torch"
        )
    return _message_kind(head)


def _begins_tar(head: bytes) -> bool:
    return head[_TAR_MARK] == b"ustar"


def _inflated(head: bytes) -> bytes:
    """The first bytes of what gzip has packed; empty if it is no such file."""
    if not head.startswith(_GZIP):
        return b""
    try:
        return zlib.decompressobj(_GZIP_FORM).decompress(head, _TAR_MARK.stop)
    except zlib.error:
        return b""


def looks_like_net(head: bytes) -> bool:
    """Whether a file with these first bytes may be a caffemodel."""
    return (
        head.startswith(_NET_KEYS)
        and not looks_like_text(head)
        and not looks_like_safetensors(head)
    )


def looks_like_safetensors(head: bytes) -> bool:
    """Whether a file begins as safetensors does: a length below 2**32, then a JSON object."""
    return head[4:9] == b"\0\0\0\0{"


def _text_kind(text: str) -> str:
    wrong = wrong_text(text)
    if wrong:
        return wrong.removeprefix("this is ")
    if _PROTOTXT.search(text):
        return "prototxt text, a definition; the weights are in a binary file beside it"
    return "plain text"


def _zip_kind(path: Path) -> str:
    names = zip_names(path)
    if names is None:
        return "a damaged zip archive (an .npz or .pt that is cut off?)"
    if not names:
        return "a zip archive with nothing in it"
    shown = ", ".join(names[:3])
    return f"a zip archive with {shown} in it; unpack it first: unzip {shlex.quote(str(path))}"


def _message_kind(head: bytes) -> str | None:
    """Recognises Caffe's other binary files: solver states and single BlobProtos."""
    first: dict[int, int] = {}
    try:
        for field in wire.Message.whole(memoryview(head), "").fields():
            first.setdefault(field.number, field.wire)
    except FormatError:
        pass  # the head may end inside a field
    if first.get(1) == wire.VARINT and first.get(2) == wire.LENGTH:
        return SOLVER_STATE
    if first.get(1) == first.get(2) == wire.VARINT or head.startswith(_BLOB_KEYS):
        return SINGLE_ARRAY
    return None

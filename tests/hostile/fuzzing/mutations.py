"""Ways to damage bytes: all a pure function of a ``random.Random``.

A move changes a ``bytearray`` in place. Text, protobuf messages, zip archives and files of fixed
places (LMDB, HDF5) have moves of their own, so that readers come to what lies deeper.
"""

from __future__ import annotations

import io
import os
import random
import re
import zipfile
from collections.abc import Callable, Sequence

from caffecompat.errors import FormatError
from caffecompat.weights.encodings import wire

# Of all random damage.
SEED = int(os.environ.get("CAFFECOMPAT_FUZZ_SEED", "0"))
# Numbers that length fields and extents like to be broken by.
NUMBERS = (
    b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x80\x80\x80\x80\x10",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\x00",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"\xff" * 8,
)
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, (1 << 31) - 1, 1 << 31)
WIDE = (*EXTREMES, (1 << 32) - 1, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
WORDS = (
    *(b"{", b"}", b"{" * 40, b"}" * 40, b"[", b"]", b"<", b">", b":", b'"', b"'", b"#", b"\\"),
    *(b"layer {", b"layers {", b'type: "', b"input_dim: ", b"-1", b"1e999", b"nan", b"-inf"),
    *(b"99999999999999999999", b"0x", b"08", b"true", b"\xef\xbb\xbf", b"\xff", b"\x00", b"\n"),
    *(b"param { ", b"include { phase: TRAIN }", b"transform_param {", b"blobs {", b"top: "),
)
ODD_NUMBERS = (
    *(b"0", b"1", b"-1", b"2", b"3", b"7", b"255", b"256", b"65536", b"2147483647"),
    *(b"-2147483648", b"2147483648", b"4294967295", b"4294967296", b"9223372036854775807"),
    *(b"-9223372036854775808", b"18446744073709551615", b"99999999999999999999999", b"1e30"),
    *(b"-1e30", b"1e-45", b"3.4028236e38", b"1e400", b"nan", b"-nan", b"inf", b"-inf", b"0.5"),
    *(b".5", b"5.", b"0x10", b"010", b"0x", b"08", b"1f", b"--1", b"+1", b"1e", b"1.2.3", b"-"),
)
ODD_STRINGS = (
    *(
        b"",
        b" ",
        b"/",
        b".",
        b"..",
        b"a/b",
        b"%",
        b"%%20",
        b"class",
        b"self",
        b"forward",
        b"x" * 300,
    ),
    *(b"a\nb", b"a\\nb", b"a\\0b", b"\x00", b"\\x00", b"\xc3\xa9", b"\xff\xfe", b"\\377", b'\\"'),
    *(b"__class__", b"0", b"-1", b"conv.1", b"data", b"label", b"{0}", b"%s", b"\xf0\x9f\x98\x80"),
    *(
        b"\xe2\x80\xae",
        b"\x1b[2J",
        b"\r",
        b"\t",
        b"'",
        b'"',
        b"no/such/file",
        b"pipe",
        b"/dev/zero",
    ),
)

# Strings and words that parse where a string or a word stands.
_PLAIN = (b"", b" ", b"/", b"a/b", b"%", b"class", b"x" * 300, b"\\n", b"\\000", b"\\377", b"data")
_ENUMS = (b"true", b"false", b"TRAIN", b"TEST", b"MAX", b"AVE", b"SUM", b"PROD", b"NONE", b"LMDB")

_TOKEN = re.compile(rb'"[^"\n]*"|\'[^\'\n]*\'|[A-Za-z_]\w*|[-+]?\.?\d[\w.+-]*|\S')
_SETTING = re.compile(rb'(\w+)(\s*:\s*)("[^"\n]*"|[-+\w.]+)')
_BLOCK = re.compile(rb"\w+ *\{[^{}]*\}")

Move = Callable[[bytearray, random.Random, Sequence[bytes]], None]


def mutate(
    data: bytes, moves: Sequence[Move], chance: random.Random, others: Sequence[bytes]
) -> bytes:
    """``data`` after one to five moves; ``others`` are the files that pieces come from."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 1, 2, 5))):
        chance.choice(moves)(changed, chance, others)
    return bytes(changed)


def _place(data: bytearray, chance: random.Random) -> int:
    return chance.randrange(len(data)) if data else 0


def flip(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """One to four bits."""
    for _ in range(chance.randint(1, 4)):
        if data:
            data[_place(data, chance)] ^= 1 << chance.randrange(8)


def overwrite(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """An extreme number in the place of other bytes."""
    at, number = _place(data, chance), chance.choice(NUMBERS)
    data[at : at + len(number)] = number


def insert(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """An extreme number or some noise between other bytes."""
    at = _place(data, chance)
    data[at:at] = chance.choice((chance.choice(NUMBERS), chance.randbytes(chance.randint(1, 9))))


def delete(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """A few bytes gone."""
    at = _place(data, chance)
    del data[at : at + chance.choice((1, 1, 2, 4, 8, 64))]


def cut(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """The end gone."""
    del data[_place(data, chance) :]


def repeat(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """A piece again, maybe many times."""
    at = _place(data, chance)
    piece = data[at : at + chance.randint(1, 200)]
    data[at:at] = piece * chance.choice((1, 1, 2, 50))


def splice(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """A piece of another file."""
    other = chance.choice(others)
    start = chance.randrange(len(other)) if other else 0
    at = _place(data, chance)
    data[at:at] = other[start : start + chance.randint(1, 300)]


def join(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """The start of this file and the end of another one."""
    other = chance.choice(others)
    del data[_place(data, chance) :]
    data += other[chance.randrange(len(other)) if other else 0 :]


def copy_block(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """A block of the same file over another place of it, the length kept."""
    size = chance.choice((1, 2, 4, 8, 16, 64, 512))
    source, target = _place(data, chance), _place(data, chance)
    block = data[source : source + size]
    data[target : target + len(block)] = block[: len(data) - target]


def number_in_place(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """A whole number of 1 to 8 bytes, aligned, made extreme or moved a little."""
    width = chance.choice((1, 2, 2, 4, 4, 8))
    if len(data) < width:
        return
    at = chance.randrange(len(data) // width) * width
    old = int.from_bytes(data[at : at + width], "little")
    near = old + chance.choice((-8, -2, -1, 1, 2, 8, old, -old // 2))
    number = near if chance.random() < 0.5 else chance.choice(WIDE)
    order = "little" if chance.random() < 0.8 else "big"
    data[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, order)  # type: ignore[arg-type]


# Text


def word(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """A piece of syntax anywhere."""
    at, text = _place(data, chance), chance.choice(WORDS)
    data[at : at + chance.choice((0, 0, 1, len(text)))] = text


def swap_lines(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """Two lines in each other's place."""
    lines = bytes(data).split(b"\n")
    a, b = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    data[:] = b"\n".join(lines)


def token(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """One token deleted, doubled, or another in its place that fits its kind."""
    found = list(_TOKEN.finditer(data))
    if not found:
        return
    one = chance.choice(found)
    old, (start, end) = one[0], one.span()
    if chance.random() < 0.3:
        data[start:end] = chance.choice((b"", old + b" " + old, chance.choice(found)[0]))
    elif old[:1] in b"\"'":
        other = chance.choice(ODD_STRINGS)
        quote = old[:1]
        text = old[1:-1]
        data[start:end] = quote + chance.choice((other, text + other, other + text)) + quote
    elif old[:1].isdigit() or old[:1] in b"+-.":
        data[start:end] = chance.choice(ODD_NUMBERS)
    else:
        alike = [match[0] for match in found if match[0][:1].isalpha()]
        data[start:end] = chance.choice(alike) if alike else b""


def value(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """The value of a field changed so that the text still parses, mostly."""
    found = list(_SETTING.finditer(data))
    if not found:
        return
    one = chance.choice(found)
    old, (start, end) = one[3], one.span(3)
    if old[:1] == b'"':
        other = chance.choice(others)
        alike = [match[3] for match in _SETTING.finditer(other) if match[1] == one[1]]
        alike += [match[3] for match in found if match[3][:1] == b'"']
        new = chance.choice(alike) if chance.random() < 0.8 else b'"%s"' % chance.choice(_PLAIN)
    elif old[:1].isalpha():
        new = chance.choice((*_ENUMS, *(match[3] for match in found if match[3][:1].isalpha())))
    elif chance.random() < 0.8:
        new = b"%d" % chance.choice(
            (0, 1, 2, 3, 4, 5, 7, 8, 12, 100, -1, -2, int(chance.random() * 99))
        )
    else:
        new = chance.choice(ODD_NUMBERS)
    data[start:end] = new


def block(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """A message of the text gone, doubled, or put into another place."""
    found = list(_BLOCK.finditer(data))
    if not found:
        return
    one = chance.choice(found)
    start, end = one.span()
    act = chance.randrange(3)
    if act == 0:
        del data[start:end]
        return
    at = end if act == 1 else chance.choice(found).start()
    data[at:at] = b" " + one[0] + b" "


# Structures


def reframed(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """A protobuf message with damage somewhere inside, where all lengths around it agree."""
    try:
        fields = list(wire.Message.whole(memoryview(data), "").fields())
    except FormatError:
        fields = []
    if not fields or chance.random() < 0.15:
        return mutate(data, BINARY_MOVES, chance, others)
    if chance.random() < 0.3:
        return _with_odd_field(data, chance.choice(fields), chance)
    inside = [field for field in fields if field.wire == wire.LENGTH]
    if not inside:
        return _rearranged(data, fields, chance)
    if chance.random() < 0.1:
        return _rearranged(data, inside, chance)
    field = chance.choice(inside)
    payload = reframed(data[field.start : field.end], chance, others)
    number = field.number if chance.random() < 0.9 else chance.randint(1, 140)
    head = wire.varint(number << 3 | wire.LENGTH) + wire.varint(len(payload))
    return data[: _begin(field)] + head + payload + data[field.end :]


def _begin(field: wire.Field) -> int:
    head = len(wire.varint(field.number << 3))
    if field.wire == wire.LENGTH:
        head += len(wire.varint(field.end - field.start))
    return field.start - head


def _rearranged(data: bytes, fields: Sequence[wire.Field], chance: random.Random) -> bytes:
    """A field gone, or the bytes of one of another number again behind it."""
    one = chance.choice(fields)
    if chance.random() < 0.5:
        return data[: _begin(one)] + data[one.end :]
    other = chance.choice(fields)
    return data[: one.end] + data[_begin(other) : other.end] + data[one.end :]


def _with_odd_field(data: bytes, field: wire.Field, chance: random.Random) -> bytes:
    """A whole field put in behind another one, of any number and kind, many times maybe."""
    key, kind = chance.randint(1, 140) << 3, chance.choice((0, 1, 2, 5))
    value = {0: chance.choice(NUMBERS[:6]), 1: chance.randbytes(8), 5: chance.randbytes(4)}.get(
        kind, wire.varint(5) + chance.randbytes(5)
    )
    times = chance.choice((1, 1, 2, 33, 1000))
    return data[: field.end] + (wire.varint(key | kind) + value) * times + data[field.end :]


def repacked(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """A zip archive whose members are damaged, renamed, doubled or gone, the archive whole."""
    out = io.BytesIO()
    packing = chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", packing) as new:
        names = old.namelist()
        chosen = chance.sample(names, min(len(names), chance.choice((1, 1, 1, 2, 9))))
        for name in names:
            member = old.read(name)
            if name in chosen:
                name, member = _damaged_member(name, member, names, chance, others)
            if name and name not in new.namelist():
                new.writestr(name, member)
    return out.getvalue()


def _damaged_member(
    name: str, member: bytes, names: Sequence[str], chance: random.Random, others: Sequence[bytes]
) -> tuple[str, bytes]:
    """Another name, other bytes; no name for a member that goes."""
    act = chance.random()
    if act < 0.05:
        return "", member
    if act < 0.1:
        return chance.choice(names), member
    if act < 0.15:
        return chance.choice((f"../{name}", f"/{name}", name + "x", name.upper())), member
    if act < 0.6:
        changed = bytearray(member)
        chance.choice((flip, number_in_place, copy_block))(changed, chance, others)
        return name, bytes(changed)
    return name, mutate(member, BINARY_MOVES, chance, others)


# Positions inside an HDF5 file or an LMDB are absolute, so that one shift breaks all of them.
IN_PLACE_MOVES: tuple[Move, ...] = (
    *(flip, flip, overwrite, number_in_place, number_in_place, number_in_place, copy_block, cut),
)
BINARY_MOVES: tuple[Move, ...] = (
    *(flip, flip, overwrite, insert, delete, cut, repeat, splice, join, number_in_place),
)
VALUE_MOVES: tuple[Move, ...] = (value, value, value, value, value, value, block)
TEXT_MOVES: tuple[Move, ...] = (
    *((token,) * 16),
    *(block, block, word, word, swap_lines, flip, delete, repeat, splice, cut),
)

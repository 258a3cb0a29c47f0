#!/usr/bin/env python3
"""How much time and memory prototxts of many kinds take to read, by size of text.

Each kind of text is read in a process of its own, once, without a limit of memory but where the
limit is what a kind is about (100 MB of it are read). Time is that of the processor, so that
other work on the machine counts less; memory is the peak of resident memory (Linux) above what
the process had before, and the text itself. Both grow with the size of the text, so that a few
megabytes tell enough. The last figure is what the finished message alone takes in protobuf, read
from its binary form: no reader of the text can need less.

Example:
    python tools/bench/prototxt.py                    # all kinds, 8 MB each
    python tools/bench/prototxt.py --megabytes 100 "VGG-like layers"
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import contextlib

from google.protobuf.message import Message

from caffecompat.errors import CaffeError
from caffecompat.proto.text.parser import parse_text
from tools.bench.prototxt_texts import KINDS, LENIENT, LIMITED

# Of the messages; far more than any of these texts needs.
MOST_MEMORY = 1 << 40

LARGE = 100


def measure(kind: str, megabytes: float, binary: Path) -> str:
    """Reads a text of that kind in this process; seconds for 100 MB, and bytes for each byte.

    The message is left in the file `binary` (empty where the text is refused).
    """
    limited = kind in LIMITED
    text = KINDS[kind](int(max(megabytes, LARGE if limited else 0) * 1e6))
    message_class()
    memory = reset_peak()
    begun = time.process_time()
    message = None
    with contextlib.suppress(CaffeError):
        most = None if limited else MOST_MEMORY
        message, _ = parse_text(text, "NetParameter", "net", kind in LENIENT, most)
    seconds = (time.process_time() - begun) * 1e8 / len(text)
    taken = (kilobytes("VmHWM") - memory) * 1024 / len(text) + 1
    binary.write_bytes(b"" if message is None else message.SerializeToString())
    verdict = "refused" if message is None else "read"
    return f"| {kind} | {verdict} | {seconds:.1f} | {taken:.1f} |"


def measure_message(binary: Path, megabytes: float) -> str:
    """What the message of that file takes in this process, for each byte of its text."""
    made = message_class()
    content = binary.read_bytes()
    if not content:
        return " - |"
    memory = reset_peak()
    message = made.FromString(content)
    taken = (kilobytes("VmHWM") - memory) * 1024 / (megabytes * 1e6)
    del message
    return f" {taken:.1f} |"


def message_class() -> type[Message]:
    """Loads the schema, and compiles what Python compiles at the first use."""
    message, _ = parse_text('name: "n" layer { blobs { data: 1 data: 2 } }', "NetParameter")
    return type(message)


def reset_peak() -> int:
    """Forgets the peak of memory; kilobytes of resident memory now."""
    Path("/proc/self/clear_refs").write_text("5")
    return kilobytes("VmRSS")


def kilobytes(field: str) -> int:
    found = re.search(field + r":\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--megabytes", type=float, default=8, help="of each text (default: 8)")
    parser.add_argument("--binary", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--message", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.message:
        print(measure_message(arguments.binary, arguments.megabytes))
    elif arguments.binary:
        print(measure(arguments.kinds[0], arguments.megabytes, arguments.binary), end="")
    else:
        print("| text | | CPU seconds for 100 MB | bytes of memory for each byte | message alone |")
        print("| --- | --- | ---: | ---: | ---: |")
        for kind in arguments.kinds or KINDS:
            in_processes(kind, arguments.megabytes)


def in_processes(kind: str, megabytes: float) -> None:
    """One row: the text in one process, its message in another one."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--megabytes", str(megabytes)]
        command += ["--binary", str(Path(folder) / "message")]
        for arguments in ([kind], ["--message"]):
            sys.stdout.flush()
            subprocess.run([*command, *arguments], check=True)


if __name__ == "__main__":
    main()

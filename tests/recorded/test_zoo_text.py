"""Published definitions of many forks are read by the united schema, or refused in words."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from caffecompat.errors import CaffeError
from caffecompat.proto import files
from caffecompat.proto.fork_fields import foreign_fields
from caffecompat.proto.text.parser import format_text, parse_text

# Files that no Caffe of ours reads, and the sentence that they get.
BROKEN = {
    "deepbit/deploy32.prototxt": ":331: the net has both layer (e.g. 'relu8_kevin' on line 331)",
    "mycaffe_gpt_mini/gpt-mini.prototxt": ":12:15: layer 'tokdata1': source has an unknown escape",
}


@pytest.fixture(scope="module")
def zoo(golden: Path) -> Path:
    folder = golden.parent / "zoo"
    if not folder.is_dir():
        pytest.skip("the collection of published definitions is not beside this checkout")
    return folder


def listed(zoo: Path) -> list[dict[str, str]]:
    with open(zoo / "manifest.tsv") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_every_published_file_is_read_or_refused_for_what_it_is(zoo: Path) -> None:
    refused, rescued = set(), 0
    for row in listed(zoo):
        name = f"{row['name']}/{row['file']}"
        path = zoo / name
        reader = files.read_solver if row["kind"] == "solver" else files.read_net
        if name in BROKEN:
            with pytest.raises(CaffeError) as raised:
                reader(path)
            assert str(raised.value).startswith(f"{path}{BROKEN[name]}")
            refused.add(name)
            continue
        message, _ = reader(path)
        assert message.ListFields(), name
        rescued += row["bvlc_parses"] == "no"
    assert refused == set(BROKEN)
    assert rescued > 70


def test_what_bvlc_reads_holds_nothing_foreign_and_the_rest_prints_and_reads_back(
    zoo: Path,
) -> None:
    for row in listed(zoo):
        name = f"{row['name']}/{row['file']}"
        kind = "SolverParameter" if row["kind"] == "solver" else "NetParameter"
        if name in BROKEN:
            continue
        message = files.read_text(zoo / name, kind)[0]
        if row["bvlc_parses"] == "yes":
            assert foreign_fields(message) == [], name
        else:
            assert foreign_fields(message) != [], name
            again, _ = parse_text(format_text(message), kind)
            assert again.SerializeToString() == message.SerializeToString(), name

"""dataset merge, shuffle, split and sample."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffecompat.data.codec.datum import parse_datum
from tests.cli.datasets.records import Run, labels, records


def test_merge_keeps_the_order_and_numbers_anew(mixed: Path, numbered: Path, run: Run) -> None:
    target = mixed.with_name("merged")
    code, out, _ = run("merge", numbered, mixed, numbered, target)
    assert (code, out) == (0, f"{target}: 505 records\n")
    found = records(target)
    assert [value for _, value in found] == [
        value for source in (numbered, mixed, numbered) for _, value in records(source)
    ]
    assert found[250][0] == b"00000250_a/b c.jpg"
    assert found[253][0] == b"00000253_00000003"
    assert found[504][0] == b"00000504_249.png"


def test_shuffle_is_a_pure_function_of_the_seed(numbered: Path, run: Run) -> None:
    made = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        target = numbered.with_name(name)
        assert run("shuffle", numbered, target, "--seed", seed)[0] == 0
        made.append(records(target))
    assert made[0] == made[1]
    order = [parse_datum(value).label for _, value in made[0]]
    assert sorted(order) == list(range(250))
    assert order != [parse_datum(value).label for _, value in made[2]] != list(range(250))
    assert [key for key, _ in made[0]] == [
        b"%08d_%d.png" % (number, label) for number, label in enumerate(order)
    ]


def test_split_puts_every_record_into_one_part(numbered: Path, run: Run) -> None:
    first, second = numbered.with_name("first"), numbered.with_name("second")
    code, out, _ = run("split", numbered, first, second, "--fraction", 0.3, "--seed", 5)
    assert (code, out) == (0, f"{first}: 75 records\n{second}: 175 records\n")
    parts = records(first) + records(second)
    assert sorted(parts) == records(numbered)
    assert labels(first) == sorted(labels(first))
    # By chance: not the first 75.
    assert 20 < sum(label < 125 for label in labels(first)) < 55
    assert labels(first)[-1] > 75


def test_sample_draws_without_repeating(numbered: Path, run: Run) -> None:
    target = numbered.with_name("sampled")
    assert run("sample", numbered, target, "--count", 20)[0] == 0
    found = labels(target)
    assert len(set(found)) == 20
    assert found == sorted(found)
    assert set(records(target)) <= set(records(numbered))


def test_leveldb_in_and_out(mixed: Path, run: Run) -> None:
    pytest.importorskip("plyvel", reason="plyvel (extra leveldb) is not installed")
    level, back = mixed.with_name("level"), mixed.with_name("back")
    assert run("merge", mixed, level, "--backend", "leveldb")[0] == 0
    assert "records   5" in run("info", level)[1]
    assert run("merge", level, back, "--backend", "lmdb")[0] == 0
    assert [v for _, v in records(back)] == [v for _, v in records(mixed)]

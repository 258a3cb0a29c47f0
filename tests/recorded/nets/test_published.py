"""Published definitions: read, built, and run on weights made by a rule, as BVLC Caffe 1.0 does."""

from __future__ import annotations

import csv
import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffecompat import Net, read_net
from caffecompat.errors import CaffeError
from caffecompat.layers import catalogue
from caffecompat.layers.fillers import check_filler
from caffecompat.net.blobs.inputs import Inputs
from caffecompat.net.parameters import initial_values
from caffecompat.net.setup import build
from caffecompat.net.shapes import top_shapes
from caffecompat.proto import files
from caffecompat.proto.descriptors import layout
from caffecompat.proto.fork_fields import foreign_fields
from caffecompat.proto.fork_meanings import NO_FORK, meaning_of
from caffecompat.proto.schema import new
from caffecompat.proto.text.parser import format_text, parse_text
from tests.net.shapes.checked import CheckedShapes
from tests.net.stated_nets import states_what_a_net_finds
from tests.recorded.cases import Case
from tests.recorded.exceptions import TYPES_OF_FORKS
from tests.recorded.tally import Tally
from tests.recorded.tolerances import FORWARD, ILL_CONDITIONED, OPENCV, PUBLISHED
from tools.zoo.published import (
    NormalValues,
    blob_of,
    first_divergent,
    generator,
    is_opencv,
    normal_values,
    output_difference,
    output_of,
    prepare,
    recorded_statistics,
    run,
    statistics,
)


def test_values_by_rule_are_those_of_one_draw() -> None:
    kept = NormalValues(limit=4 * 100_000)
    shapes = [(7, 11), (300, 301), (1, 90_301), (4, 3)]
    for name, shape in (*(("a", shape) for shape in shapes), ("b", (2, 50_000)), ("a", (4, 3))):
        drawn = generator(name).standard_normal(shape).astype(np.float32)
        assert np.array_equal(kept(name, shape), drawn)
        again = kept(name, shape)
        assert np.array_equal(again, drawn)
        assert np.shares_memory(again, kept(name, shape)), "the values were drawn anew"


def test_types_of_forks_are_not_there() -> None:
    there = sorted(name for name in TYPES_OF_FORKS if name in catalogue)
    assert not there, "these types are there by now: take them out of exceptions.py"


def built(case: Case, recorded: dict[str, Any] | None = None, **options: Any) -> Net | None:
    """The net of a definition, or None where it is refused as it must be.

    ``recorded`` is what another program recorded of it, which may read it in its own way.
    """
    message = read_net(case.path)
    if recorded is not None:
        prepare(message, recorded)
    missing = {layer.type for layer in message.layer if layer.type not in catalogue}
    assert missing <= TYPES_OF_FORKS
    if missing:
        with pytest.raises(CaffeError) as unknown:
            Net(message, **options)
        assert all(f"unknown layer type {name!r}" in str(unknown.value) for name in missing)
        return None
    return Net(message, **options)


@pytest.mark.recorded_cases("published shapes")
def test_shapes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top_shapes, "OperatorShapes", CheckedShapes)
    net = built(case, shapes_only=True)
    assert net is not None, "the shapes of a net that is refused have been recorded"
    expected = json.loads(case.path.with_suffix(".shapes.json").read_text())
    layers = [layer for layer in net.layers if not layer.node.automatic]
    assert [[layer.name, layer.type] for layer in layers] == [
        recorded[:2] for recorded in layers_of(expected)
    ]
    for layer, recorded in zip(layers, layers_of(expected), strict=True):
        specs = layer.module.layer.specs if layer.module else []
        assert [list(spec.shape) for spec in specs] == recorded[2], layer.name
    for name, shape in expected["blobs"].items():
        assert list(net.blobs[name].shape) == shape, name
    assert net.outputs == sorted(expected["outputs"])


def layers_of(expected: dict[str, Any]) -> list[list[Any]]:
    return [
        list(layer.values()) if isinstance(layer, dict) else layer for layer in expected["layers"]
    ]


@pytest.fixture(scope="module", autouse=True)
def forget_values() -> Iterator[None]:
    # What other tests have imported stays: the collections below look at nets alone.
    gc.collect()
    gc.freeze()
    yield
    normal_values.clear()


@pytest.fixture(autouse=True)
def drop_nets() -> Iterator[None]:
    """A graph of torch.fx keeps its weights, up to gigabytes, until the garbage collector runs."""
    yield
    gc.collect()


@pytest.fixture
def unfilled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fillers are checked, and their values, which the rule replaces at once, are not made."""

    def check(
        message: Any, shape: tuple[int, ...], random: torch.Generator, place: str
    ) -> torch.Tensor:
        check_filler(message, shape, place)
        return torch.empty(shape)

    monkeypatch.setattr(initial_values, "fill", check)


@pytest.mark.usefixtures("unfilled")
@pytest.mark.recorded_cases("published outputs")
def test_outputs(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """All outputs, as BVLC Caffe computes them or, for nets of forks, OpenCV."""
    expected = json.loads(case.path.with_suffix(".golden.json").read_text())
    net = built(case, expected)
    if net is None:
        return
    assert is_opencv(expected) or expected["oracle"].startswith("BVLC Caffe 1.0 (CPU)")
    run(net, expected)
    arrays = np.load(case.path.with_suffix(".golden.npz"))
    usual = OPENCV if is_opencv(expected) else FORWARD
    bound = PUBLISHED.get(case.name, usual)
    for name, facts in {**expected["outputs"], **expected.get("extra", {})}.items():
        found = output_of(net, name, expected)
        if case.name not in ILL_CONDITIONED:
            assert output_difference(found, facts, arrays) <= bound, name
    if case.name in ILL_CONDITIONED:
        rounding_alone_differs(net, expected, bound, monkeypatch)


def rounding_alone_differs(
    net: Net, expected: dict[str, Any], bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where values leave the recorded ones, those of a pass in float64 are ours."""
    first = first_divergent(net, expected, bound)
    assert first, "it agrees by now: take it out of ILL_CONDITIONED"
    ours, recorded = statistics(blob_of(net, first, expected)), expected["layers"][first]
    feeds = Inputs.feeds
    monkeypatch.setattr(Inputs, "feeds", lambda *given: [x.double() for x in feeds(*given)])
    with torch.no_grad():
        net.double().forward()
    exact = statistics(blob_of(net, first, expected))
    scale = max(1.0, abs(recorded["mean"]) + recorded["std"])
    from_exact = np.abs(ours - exact).max() / scale
    assert from_exact <= bound
    assert from_exact < np.abs(recorded_statistics(recorded) - exact).max() / scale


def listed(published: Path) -> list[dict[str, str]]:
    with open(published / "manifest.tsv") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_shapes_without_torch(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Equal layers of different nets have equal shapes too.
    inferred = top_shapes.InferredShapes()
    monkeypatch.setattr(build, "InferredShapes", lambda: inferred)
    paths = sorted(published.rglob("*.prototxt"))
    stated = sum(states_what_a_net_finds(path) for path in paths)
    assert stated > len(paths) / 3


def test_every_published_file_is_read(published: Path) -> None:
    tally, rescued = Tally(), 0
    for row in listed(published):
        name = f"{row['name']}/{row['file']}"
        reader = files.read_solver if row["kind"] == "solver" else files.read_net
        with tally.case(name):
            message, _ = reader(published / name)
            assert message.ListFields()
            rescued += row["bvlc_parses"] == "no"
    tally.close()
    assert rescued > 70


def test_what_bvlc_reads_holds_nothing_foreign_and_the_rest_prints_and_reads_back(
    published: Path,
) -> None:
    tally = Tally()
    for row in listed(published):
        name = f"{row['name']}/{row['file']}"
        kind = "SolverParameter" if row["kind"] == "solver" else "NetParameter"
        with tally.case(name):
            message = files.read_text(published / name, kind)[0]
            plain = row["bvlc_parses"] == "yes" or "both 'layer' and 'layers'" in (
                row["bvlc_parse_error"] or ""
            )
            assert (foreign_fields(message) == []) == plain
            if row["bvlc_parses"] != "yes":
                again, _ = parse_text(format_text(message), kind)
                assert again.SerializeToString() == message.SerializeToString()
    tally.close()


def test_every_foreign_field_of_a_large_sample_has_a_meaning(published: Path) -> None:
    """Fields and enum values that BVLC's schema refuses in some thousand published files."""
    with open(published / "unknown_fields.tsv") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    tally = Tally()
    for row in rows:
        message, field = row["message"], row["field_or_enum_value"]
        with tally.case(f"{message} {field}"):
            meaning = meaning_of(message, field)
            assert meaning is not None
            assert meaning.effect in ("none", "values", "type")
            name, _, value = field.partition("=")
            known = layout(new(message).DESCRIPTOR).fields.get(name)
            # What the schema lacks is refused with the meaning, without --lenient.
            if known is None:
                assert meaning.fork == NO_FORK or meaning.effect != "none"
            elif value:
                assert value in known.numbers or meaning.effect != "none"
    tally.close(least=300)


STATED: dict[str, dict[str, tuple[int, ...]]] = {
    "cifar10": {"data": (3, 32, 32)},
    "lenet": {"data": (1, 28, 28)},
    "siamese": {"pair_data": (2, 28, 28)},
    "nonlinear": {"data": (10, 4), "label": (10,)},
    "hdf5_classification": {"data": (10, 4), "label": (10,)},
}


def test_every_published_train_val_can_be_summarised(
    published: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    tally = Tally()
    paths = [p for p in published.glob("bvlc_*/*.prototxt") if "train" in p.name or "val" in p.name]
    for path in sorted(paths):
        shapes = next((s for name, s in STATED.items() if name in str(path)), {})
        for phase in ("train", "test"):
            with tally.case(f"{path.parent.name}/{path.name}, {phase}"):
                net = Net(path, phase=phase, shapes_only=True, shapes=shapes)
                assert net.learnable
    tally.close(least=20)

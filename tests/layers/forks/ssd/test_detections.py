"""DetectionOutput and DetectionEvaluate, against loops over boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from caffecompat.errors import DataError, LayerError
from caffecompat.layers import BuildOptions, Context, catalogue
from tests.layers.forks.ssd.detection_references import decoded, overlap
from tests.layers.messages import made, message, run

COUNT, BOXES, CLASSES = 2, 9, 4


def priors(seed: int = 0) -> Tensor:
    """A blob of random priors with distinct variances."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(BOXES, 2, generator=generator) * 0.6
    size = torch.rand(BOXES, 2, generator=generator) * 0.3 + 0.1
    variances = torch.rand(BOXES, 4, generator=generator) * 0.1 + 0.1
    return torch.stack([torch.cat([low, low + size], 1), variances]).reshape(1, 2, -1)


def predictions(location_classes: int = 1, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    locations = torch.randn(COUNT, BOXES * location_classes * 4, generator=generator)
    scores = torch.rand(COUNT, BOXES, CLASSES, generator=generator).softmax(2)
    return locations, scores.reshape(COUNT, -1)


def expected(
    locations: Tensor,
    scores: Tensor,
    blob: Tensor,
    code: str = "CENTER_SIZE",
    keep_top_k: int = -1,
    top_k: int = 10**6,
    threshold: float = 0.2,
    variance_in_target: bool = False,
) -> list[list[float]]:
    boxes = blob.reshape(2, BOXES, 4).tolist()
    rows = []
    for n in range(COUNT):
        values = locations[n].reshape(BOXES, -1, 4).tolist()
        own = scores[n].reshape(BOXES, CLASSES).tolist()
        kept = []
        for label in range(1, CLASSES):
            ranked = sorted(
                (p for p in range(BOXES) if own[p][label] > threshold),
                key=lambda p: -own[p][label],
            )
            places: list[list[float]] = []
            for p in ranked[:top_k]:
                factors = [1.0] * 4 if variance_in_target else boxes[1][p]
                shift = values[p][label if len(values[p]) > 1 else 0]
                box = decoded(code, shift, boxes[0][p], factors)
                if all(overlap(box, other) <= 0.3 for other in places):
                    places.append(box)
                    kept.append([float(n), float(label), own[p][label], *box])
        if -1 < keep_top_k < len(kept):
            kept = sorted(kept, key=lambda row: -row[2])[:keep_top_k]
            kept = sorted(kept, key=lambda row: row[1])
        rows += kept
    return rows


def text(**values: object) -> str:
    fields = " ".join(f"{name}: {value!s}" for name, value in values.items())
    return f"detection_output_param {{ num_classes: {CLASSES} confidence_threshold: 0.2 {fields} }}"


def rows_of(*bottoms: Tensor, **values: object) -> list[list[float]]:
    (top,) = run("DetectionOutput", text(**values), *bottoms)
    assert top.shape[:2] == (1, 1)
    assert top.shape[3] == 7
    found: list[list[float]] = top[0, 0].tolist()
    return found


def assert_rows(found: list[list[float]], wanted: list[list[float]]) -> None:
    assert len(found) == len(wanted) > 3
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("code", ["CORNER", "CENTER_SIZE", "CORNER_SIZE"])
@pytest.mark.parametrize("in_target", [False, True])
def test_codes(code: str, in_target: bool) -> None:
    bottoms = (*predictions(), priors())
    found = rows_of(*bottoms, code_type=code, variance_encoded_in_target=str(in_target).lower())
    assert_rows(found, expected(*bottoms, code=code, variance_in_target=in_target))


def test_limits_per_class_and_per_image() -> None:
    bottoms = (*predictions(), priors())
    found = rows_of(*bottoms, code_type="CENTER_SIZE", keep_top_k=4, nms_param="{ top_k: 5 }")
    assert_rows(found, expected(*bottoms, keep_top_k=4, top_k=5))


def test_each_class_may_have_locations_of_its_own() -> None:
    bottoms = (*predictions(CLASSES), priors())
    found = rows_of(*bottoms, code_type="CENTER_SIZE", share_location="false")
    assert_rows(found, expected(*bottoms))


def test_two_stages_of_refinedet() -> None:
    locations, scores = predictions()
    first_locations, _ = predictions(seed=5)
    first = torch.rand(COUNT, BOXES, 2, generator=torch.Generator().manual_seed(3))
    blob = priors()
    found = rows_of(
        *(locations, scores, blob, first.reshape(COUNT, -1), first_locations),
        code_type="CENTER_SIZE",
        objectness_score=0.4,
    )
    likely = scores.reshape(COUNT, BOXES, CLASSES) * (first[..., 1:] >= 0.4)
    wanted = []
    for n in range(COUNT):
        old = blob.reshape(2, BOXES, 4).clone()
        shifts = first_locations[n].reshape(BOXES, 4)
        for p in range(BOXES):
            box = decoded("CENTER_SIZE", shifts[p].tolist(), old[0, p].tolist(), old[1, p].tolist())
            old[0, p] = torch.tensor(box)
        every = expected(locations, likely.reshape(COUNT, -1), old.reshape(1, 2, -1))
        wanted += [row for row in every if row[0] == n]
    assert_rows(found, wanted)


def test_quadrilaterals_of_textboxes() -> None:
    generator = torch.Generator().manual_seed(4)
    locations = torch.randn(COUNT, BOXES, 12, generator=generator)
    _, scores = predictions()
    blob = priors()
    settings = text(code_type="CENTER_SIZE", use_polygon="true")
    (top,) = run("DetectionOutput", settings, locations.reshape(COUNT, -1), scores, blob)
    assert top.shape[3] == 15
    found = top[0, 0].tolist()
    boxes = locations[..., :4].reshape(COUNT, -1)
    assert_rows([row[:7] for row in found], expected(boxes, scores, blob))
    values, variances = blob.reshape(2, BOXES, 4).tolist()
    for row in found:
        image = int(row[0])
        own = scores[image].reshape(BOXES, CLASSES)[:, int(row[1])].tolist()
        place = min(range(BOXES), key=lambda p: abs(own[p] - row[2]))
        x1, y1, x2, y2 = values[place]
        wanted = []
        for corner, (x, y) in enumerate([(x1, y1), (x2, y1), (x2, y2), (x1, y2)]):
            dx, dy = locations[image, place, 4 + 2 * corner : 6 + 2 * corner].tolist()
            wanted += [
                x + variances[place][0] * dx * (x2 - x1),
                y + variances[place][1] * dy * (y2 - y1),
            ]
        np.testing.assert_allclose(row[7:], wanted, rtol=1e-4, atol=1e-5)
    empty = settings.replace("threshold: 0.2", "threshold: 2")
    (top,) = run("DetectionOutput", empty, locations.reshape(COUNT, -1), scores, blob)
    assert top[0, 0].tolist() == [[float(n)] + [-1.0] * 14 for n in range(COUNT)]
    with pytest.raises(LayerError, match="use_polygon needs code_type CENTER_SIZE"):
        made("DetectionOutput", text(use_polygon="true"), (2, 108), (2, 36), (1, 2, 36))


def test_an_image_as_fourth_bottom_is_not_read() -> None:
    bottoms = (*predictions(), priors())
    image = torch.full((COUNT, 3, 5, 5), float("nan"))
    assert rows_of(*bottoms, image) == rows_of(*bottoms)


def test_nothing_found() -> None:
    locations, scores = predictions()
    assert rows_of(locations, scores * 0, priors()) == [[0, *[-1] * 6], [1, *[-1] * 6]]


def test_shape_before_the_first_pass() -> None:
    layer = made("DetectionOutput", text(), (2, 36), (2, 36), (1, 2, 36))
    meta = [torch.empty(shape, device="meta") for shape in ((2, 36), (2, 36), (1, 2, 36))]
    assert layer.infer(*meta).shape == (1, 1, 1, 7)


@pytest.mark.parametrize(
    ("shapes", "fields", "sentence"),
    [
        (((2, 36), (2, 36), (1, 2, 32)), {}, "the locations are 2x36, but 8 priors need 2x32"),
        (((2, 36), (2, 27), (1, 2, 36)), {}, "the scores are 2x27, but 9 priors need 2x36"),
        (((2, 36), (2, 36), (1, 36)), {}, "the priors are 1x36, expected"),
        (((2, 36), (2, 36), (1, 2, 36)), {"nms_param": "{ eta: 0 }"}, "eta is 0"),
        (((2, 36), (2, 36), (1, 2, 36)), {"biases": 2}, "biases: from another Caffe version"),
    ],
)
def test_refusals(
    shapes: tuple[tuple[int, ...], ...], fields: dict[str, object], sentence: str
) -> None:
    def set_up() -> None:
        layer = made("DetectionOutput", text(**fields), *shapes)
        layer.infer(*(torch.empty(shape, device="meta") for shape in shapes))

    with pytest.raises(LayerError, match=sentence):
        set_up()


def saved(folder: Path, kind: str, prefix: str = "p_", name: str = "cat") -> str:
    (folder / "map.txt").write_text(
        f"item {{ name: 'none' label: 0 }} item {{ name: '{name}' label: 1 }}"
        "item { name: '17' label: 2 } item { name: 'cow' label: 3 }"
    )
    (folder / "sizes.txt").write_text("first 100 200\n0002 50 40\n")
    return (
        f"{{ output_directory: '{folder}/made/here' output_name_prefix: '{prefix}' "
        f"output_format: '{kind}' label_map_file: '{folder}/map.txt' "
        f"name_size_file: '{folder}/sizes.txt' }}"
    )


def test_files_of_voc(tmp_path: Path) -> None:
    bottoms = (*predictions(), priors())
    rows = rows_of(*bottoms, code_type="CENTER_SIZE", save_output_param=saved(tmp_path, "VOC"))
    folder = tmp_path / "made" / "here"
    assert sorted(p.name for p in folder.iterdir()) == ["p_17.txt", "p_cat.txt", "p_cow.txt"]
    lines = (folder / "p_cat.txt").read_text().splitlines()
    own = [row for row in rows if row[1] == 1]
    assert len(lines) == len(own) > 2
    for line, row in zip(lines, own, strict=True):
        image, score, *edges = line.split()
        height, width = ((100, 200), (50, 40))[int(row[0])]
        assert image == ("first", "0002")[int(row[0])]
        assert float(score) == pytest.approx(row[2], rel=1e-5)
        scale = (width, height, width, height)
        wanted = [min(max(v, 0), 1) * s for v, s in zip(row[3:], scale, strict=True)]
        assert [int(edge) for edge in edges] == pytest.approx(wanted, abs=2)


def test_files_of_coco_and_ilsvrc(tmp_path: Path) -> None:
    bottoms = (*predictions(), priors())
    rows = rows_of(*bottoms, save_output_param=saved(tmp_path, "COCO"))
    found = json.loads((tmp_path / "made" / "here" / "p_.json").read_text())
    assert len(found) == len(rows)
    names = {1: "cat", 2: 17, 3: "cow"}
    assert [one["category_id"] for one in found] == [names[int(row[1])] for row in rows]
    assert {one["image_id"] for one in found} == {"first", 2}
    rows_of(*bottoms, save_output_param=saved(tmp_path, "ILSVRC"))
    lines = (tmp_path / "made" / "here" / "p_.txt").read_text().splitlines()
    assert [line.split()[1] for line in lines] == [str(int(row[1])) for row in rows]


@pytest.mark.parametrize(("prefix", "name"), [("../p_", "cat"), ("p_", "/etc/cat"), ("p/", "cat")])
def test_files_stay_in_their_folder(tmp_path: Path, prefix: str, name: str) -> None:
    with pytest.raises(DataError, match="is part of a file name and must not contain '/'"):
        rows_of(*predictions(), priors(), save_output_param=saved(tmp_path, "VOC", prefix, name))
    assert not (tmp_path / "made").exists()


def test_nothing_is_saved_without_a_label_map() -> None:
    fields = "save_output_param { output_directory: '/nowhere' }"
    definition = message("DetectionOutput", f"detection_output_param {{ num_classes: 2 {fields} }}")
    layer = catalogue.find("DetectionOutput")(Context("TEST", "here", BuildOptions()))
    layer.setup(definition, ((1, 4), (1, 2), (1, 2, 4)))
    assert layer.notes == [
        "here: save_output_param needs label_map_file and name_size_file; nothing is saved"
    ]


# Rows [image, class, instance, box, difficult] and [image, class, score, box].
TRUTH = torch.tensor(
    [
        [0, 1, 0, 0.1, 0.1, 0.5, 0.5, 0],
        [0, 1, 1, 0.6, 0.6, 0.9, 0.9, 1],
        [0, 2, 0, 0.1, 0.1, 0.5, 0.5, 0],
        [2, 1, 0, 0.0, 0.0, 1.0, 1.0, 0],
    ]
)[None, None]
FOUND = torch.tensor(
    [
        [0, 1, 0.5, 0.1, 0.1, 0.5, 0.52],  # finds the first object, which a better one has found
        [0, 1, 0.9, 0.1, 0.1, 0.5, 0.5],
        [0, 1, 0.8, 0.6, 0.6, 0.9, 0.88],  # finds the difficult object
        [0, 3, 0.4, 0.1, 0.1, 0.5, 0.5],  # no object of this class
        [1, 1, 0.7, 0.1, 0.1, 0.5, 0.5],  # no object in this image
        [2, 1, 0.6, 0.0, 0.0, 0.6, 0.6],  # overlaps too little
    ]
)[None, None]


@pytest.mark.parametrize("difficult", [True, False])
def test_verdicts(difficult: bool) -> None:
    fields = f"num_classes: 4 evaluate_difficult_gt: {str(difficult).lower()}"
    (top,) = run("DetectionEvaluate", f"detection_evaluate_param {{ {fields} }}", FOUND, TRUTH)
    rows = [[round(v, 4) for v in row] for row in top[0, 0].tolist()]
    assert rows == [
        [-1, 1, 3 if difficult else 2, -1, -1],
        [-1, 2, 1, -1, -1],
        [-1, 3, 0, -1, -1],
        [0, 1, 0.9, 1, 0],
        [0, 1, 0.8, 1 if difficult else 0, 0],
        [0, 1, 0.5, 0, 1],
        [0, 3, 0.4, 0, 1],
        [1, 1, 0.7, 0, 1],
        [2, 1, 0.6, 0, 1],
    ]


def test_rows_without_detections_and_objects() -> None:
    nothing = torch.tensor([[0.0, *[-1] * 6]])[None, None]
    empty = torch.full((1, 1, 1, 8), -1.0)
    (top,) = run("DetectionEvaluate", "detection_evaluate_param { num_classes: 3 }", nothing, empty)
    assert top[0, 0].tolist() == [[-1, 1, 0, -1, -1], [-1, 2, 0, -1, -1]]


def test_overlaps_in_pixels(tmp_path: Path) -> None:
    """In pixels the last row and column count: 3 x 3 of 4 x 4, not 2 x 2 of 3 x 3."""
    (tmp_path / "sizes.txt").write_text("a 10 10\nb 10 10\n")
    truth = torch.tensor([[0, 1, 0, 0.0, 0.0, 0.3, 0.3, 0]])[None, None]
    found = torch.tensor([[0, 1, 0.5, 0.0, 0.0, 0.2, 0.2]])[None, None]
    fields = f"num_classes: 2 overlap_threshold: 0.5 name_size_file: '{tmp_path}/sizes.txt'"
    (top,) = run("DetectionEvaluate", f"detection_evaluate_param {{ {fields} }}", found, truth)
    assert top[0, 0, 1].tolist() == [0, 1, 0.5, 1, 0]
    (top,) = run("DetectionEvaluate", "detection_evaluate_param { num_classes: 2 }", found, truth)
    assert top[0, 0, 1].tolist() == [0, 1, 0.5, 0, 1]


def test_the_image_of_a_pass_that_is_taken_back(tmp_path: Path) -> None:
    """The position in the list of sizes is the layer's state; files cannot be taken back."""
    (tmp_path / "sizes.txt").write_text("a 10 10\nb 99 99\n")
    truth = torch.tensor([[0, 1, 0, 0.0, 0.0, 0.3, 0.3, 0]])[None, None]
    found = torch.tensor([[0, 1, 0.5, 0.0, 0.0, 0.2, 0.2]])[None, None]
    fields = f"num_classes: 2 overlap_threshold: 0.5 name_size_file: '{tmp_path}/sizes.txt'"
    layer: Any = made(
        "DetectionEvaluate", f"detection_evaluate_param {{ {fields} }}", found.shape, truth.shape
    )
    before = layer.state
    tops = [layer.forward(found, truth)]
    layer.state = before
    tops += [layer.forward(found, truth), layer.forward(found, truth)]
    assert [top[0, 0, 1].tolist() for top in tops[:2]] == [[0, 1, 0.5, 1, 0]] * 2
    assert tops[2][0, 0, 1].tolist() == [0, 1, 0.5, 0, 1]
    output = made(
        *("DetectionOutput", text(save_output_param=saved(tmp_path, "VOC"))),
        *(bottom.shape for bottom in (*predictions(), priors())),
    )
    assert layer.can_be_restored
    assert not output.can_be_restored


def test_a_label_beyond_the_classes() -> None:
    with pytest.raises(LayerError, match="has the label 2, but the classes are 0 to 2 and 2 is"):
        run(
            "DetectionEvaluate",
            "detection_evaluate_param { num_classes: 3 background_label_id: 2 }",
            *(FOUND, TRUTH),
        )

"""RoIDataLayer: images of a list, scaled, flipped and shuffled as in py-faster-rcnn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from caffecompat.errors import DataError, FileProblem, LayerError
from caffecompat.layers import Source
from tests.layers.messages import message
from tests.layers.single import build
from tests.net.nets import net

ROI_DATA = "Python (RoIDataLayer of py-faster-rcnn)"
MEANS = np.array([102.9801, 115.9465, 122.7717], np.float32)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, shape in (("wide", (20, 45, 3)), ("high", (30, 24, 3))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), rng.integers(0, 256, shape).astype(np.uint8))
    (tmp_path / "list.txt").write_text(
        "wide.png 0 3 4 20 15\nhigh.png 1 0 0 9 9 5 5 23 29\nwide.png 1 30 2 44 19\n"
    )
    return tmp_path


def layer(
    folder: Path,
    options: str = "",
    tops: int = 3,
    sides: str = "'SCALES': [40]\\n'MAX_SIZE': 60",
) -> Any:
    text = (
        'python_param { module: "roi_data_layer.layer" layer: "RoIDataLayer" param_str: '
        f"\"'num_classes': 3\\n'source': '{folder}/list.txt'\\n'root_folder': '{folder}/'"
        f'\\n{sides}{options}" }}'
    )
    return build(message(ROI_DATA, text, tops), [])


def test_images_and_objects(images: Path) -> None:
    source = layer(images, "\\n'shuffle': false\\n'USE_FLIPPED': false")
    assert issubclass(type(source), Source)
    assert source.shapes == [(1, 3, 40, 60), (1, 3), (1, 5)]
    assert source.records == 2
    pixels, facts, objects = source.read(0)
    # The longer side would have 90 pixels, so that it decides: 60 / 45.
    factor = 60 / 45
    stored = cv2.imread(str(images / "wide.png"))
    assert stored is not None
    scaled = cv2.resize(stored.astype(np.float32) - MEANS, None, fx=factor, fy=factor)
    np.testing.assert_allclose(pixels[0], scaled.transpose(2, 0, 1), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(facts, [[27, 60, factor]])
    np.testing.assert_allclose(
        objects,
        [[*np.array([3, 4, 20, 15]) * factor, 1], [*np.array([30, 2, 44, 19]) * factor, 2]],
        rtol=1e-6,
    )
    pixels, facts, objects = source.read(1)
    assert pixels.shape == (1, 3, 50, 40)
    assert objects[:, 4].tolist() == [2, 2]


def test_sides_that_are_multiples(images: Path) -> None:
    """Source: prep_im_for_blob of PVANet: each side is cut, so that there are two scales."""
    options = "\\n'SCALE_MULTIPLE_OF': 8\\n'shuffle': false\\n'USE_FLIPPED': false"
    source = layer(images, options)
    assert source.shapes == [(1, 3, 40, 60), (1, 6), (1, 5)]
    pixels, facts, objects = source.read(0)
    # 60 / 45 would give 26.67 x 60.
    x, y = 56 / 45, 24 / 20
    stored = cv2.imread(str(images / "wide.png"))
    assert stored is not None
    scaled = cv2.resize(stored.astype(np.float32) - MEANS, (56, 24))
    np.testing.assert_allclose(pixels[0], scaled.transpose(2, 0, 1), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(facts, [[24, 56, x, y, x, y]])
    np.testing.assert_allclose(objects[0], [3 * x, 4 * y, 20 * x, 15 * y, 1], rtol=1e-6)
    narrow = options.replace("8", "64")
    with pytest.raises(
        DataError,
        match="sides below 64 pixels, of which they must be multiples; scale images to a larger "
        "size: by SCALES and MAX_SIZE of a RoIDataLayer, by --min-side and --max-side of detect",
    ):
        layer(images, narrow).read(0)
    assert layer(images, narrow, sides="'SCALES': [80]\\n'MAX_SIZE': 160").read(0)[0].shape == (
        *(1, 3, 64, 128),
    )


def test_flipped_images(images: Path) -> None:
    source = layer(images, "\\n'shuffle': false\\n'USE_FLIPPED': true")
    plain, flipped = source.read(1), source.read(3)
    np.testing.assert_allclose(flipped[0], plain[0][..., ::-1], atol=1e-3)
    factor = 40 / 24
    x = 23 - plain[2][:, [2, 0]] / factor
    np.testing.assert_allclose(flipped[2][:, [0, 2]], x * factor, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(flipped[2][:, [1, 3, 4]], plain[2][:, [1, 3, 4]])


def test_each_time_through_has_an_order_of_its_own(images: Path) -> None:
    source = layer(images)
    widths = [[source.read(4 * k + i)[0].shape[3] for i in range(4)] for k in range(6)]
    assert all(sorted(row) == [40, 40, 60, 60] for row in widths)
    assert len({tuple(row) for row in widths}) > 1
    again = layer(images)
    assert [again.read(i)[0].shape[3] for i in range(4)] == widths[0]


def test_images_of_a_program(images: Path) -> None:
    source = layer(images, "\\n'shuffle': false")
    boxes = np.array([[1, 2, 11, 12], [0, 0, 44, 19]])
    entry = {"image": str(images / "wide.png"), "boxes": boxes, "gt_classes": [2, 0]}
    mirrored = {**entry, "boxes": [[33, 2, 43, 12], [0, 0, 44, 19]], "flipped": True, "width": 45}
    source.set_roidb([entry, mirrored])
    plain, flipped = source.read(0), source.read(1)
    factor = 60 / 45
    np.testing.assert_allclose(plain[2], [[factor, 2 * factor, 11 * factor, 12 * factor, 2]])
    np.testing.assert_allclose(flipped[2][0, [0, 2]], np.array([33, 43]) * factor, rtol=1e-6)
    np.testing.assert_allclose(flipped[0], plain[0][..., ::-1], atol=1e-3)


def test_without_images(images: Path) -> None:
    (images / "list.txt").rename(images / "other.txt")
    with pytest.raises(FileProblem, match=r"list\.txt"):
        layer(images)
    text = """python_param { module: "roi_data_layer.layer" layer: "RoIDataLayer"
              param_str: "'num_classes': 21" }"""
    source: Any = build(message(ROI_DATA, text, 6), [])
    assert source.shapes[:3] == [(1, 3, 600, 1000), (1, 5), (1,)]
    with pytest.raises(LayerError, match="it has no images: give the net the values"):
        source.read(0)
    with pytest.raises(LayerError, match="it has 6 tops; set_roidb is for data"):
        source.set_roidb([])


@pytest.mark.parametrize("count", [3, 6])
def test_each_way_to_give_images(count: int, images: Path) -> None:
    names = [f"t{i}" for i in range(count)]

    def text(more: str = "") -> str:
        return f"""layer {{ name: "d" type: "Python" {" ".join(f"top: '{n}'" for n in names)}
          python_param {{ module: "roi_data_layer.layer" layer: "RoIDataLayer"
                          param_str: "'num_classes': 3{more}" }} }}"""

    empty = net(text())
    ways = "name a list of boxes as 'source' in its param_str, call set_roidb, or "
    with pytest.raises(LayerError) as caught:
        empty.forward()
    assert f"it has no images: {ways if count == 3 else ''}give the net the" in str(caught.value)
    values = {name: np.full(empty.blobs[name].shape, 2, np.float32) for name in names}
    found = empty.forward(**values)
    assert all(np.array_equal(found[name], values[name]) for name in names)
    if count == 3:
        lists = f"\\n'source': '{images}/list.txt'\\n'root_folder': '{images}/'"
        assert len(net(text(lists)).forward()["t2"]) > 0
        entry = {"image": str(images / "wide.png"), "boxes": [[1, 2, 11, 12]], "gt_classes": [2]}
        source: Any = empty.layers[0].layer
        source.set_roidb([entry])
        assert len(empty.forward()["t2"]) == 1


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("wide.png 2 0 0 5 5", "the label 2, but there are 2 classes"),
        ("wide.png 0 0 0 60 5", "a box reaches to pixel 60, 5"),
        ("none.png 0 0 0 5 5", r"none\.png: it cannot be read"),
        ("list.txt 0 0 0 5 5", r"list\.txt: it is not an image that OpenCV can decode"),
    ],
)
def test_faults_of_the_list(images: Path, line: str, sentence: str) -> None:
    (images / "list.txt").write_text(line + "\n")
    with pytest.raises(DataError, match=sentence):
        layer(images).read(0)


def test_a_script_gives_the_images_to_its_solver_s_net(images: Path) -> None:
    """``solver.net.layers[0].set_roidb(roidb)``, as train.py of py-faster-rcnn does."""
    from caffecompat import pycaffe as caffe

    (images / "train.prototxt").write_text(
        """layer { name: "data" type: "Python" top: "data" top: "im_info" top: "gt_boxes"
                   python_param { module: "roi_data_layer.layer" layer: "RoIDataLayer"
                                  param_str: "'num_classes': 3\\n'SCALES': [20]" } }
           layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
                   pooling_param { pool: AVE global_pooling: true } }
           layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
                   inner_product_param { num_output: 1 } }
           layer { name: "loss" type: "Reduction" bottom: "fc" top: "loss" loss_weight: 1 }"""
    )
    (images / "solver.prototxt").write_text(
        f'train_net: "{images}/train.prototxt" base_lr: 0.1 lr_policy: "fixed"'
    )
    solver = caffe.SGDSolver(str(images / "solver.prototxt"))
    boxes = np.array([[1, 2, 11, 12]], np.uint16)
    entry = {"image": str(images / "wide.png"), "boxes": boxes, "gt_classes": [2], "flipped": False}
    solver.net.layers[0].set_roidb([entry])
    solver.step(1)
    assert solver.net.blobs["gt_boxes"].data.tolist() == [[1, 2, 11, 12, 2]]
    with pytest.raises(AttributeError, match=r"<layer 'data' .*> has no attribute 'set_roids'"):
        solver.net.layers[0].set_roids([])
    with pytest.raises(AttributeError, match=r"'fc' .* has no attribute 'set_roidb'"):
        solver.net.layers[2].set_roidb([])

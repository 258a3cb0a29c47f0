"""What the messages about evaluations advise, followed to the letter, works."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.data.preprocessing import Preprocessing
from caffecompat.evaluate.classification.class_order import ClassOrder, order_warning
from caffecompat.evaluate.classification.evaluation import Evaluation, EvaluationOptions
from caffecompat.evaluate.detection.region_predictions import Regions, decode_regions
from caffecompat.evaluate.features.feature_file import FeatureSet, save_features
from caffecompat.evaluate.images.labelled_images import open_images
from caffecompat.evaluate.images.preparation import ImagePreparation
from caffecompat.evaluate.localisation.box_net import BoxNet
from caffecompat.proto.text.printer import format_text
from caffecompat.weights import write_mean
from tests.commands import Run, refused, verb_runner
from tests.evaluate.classification.class_lists import names
from tests.evaluate.localisation.small import PREPARATION, box_model, write_boxes
from tests.evaluate.small import NET, small_model
from tests.evaluate.voc import write_voc

MEAN = "--mean 104,117,123 --input-scale 0.02"
MODEL = "--weights net.caffemodel --model deploy.prototxt"
EVALUATE = f"evaluate {MODEL} --data images/list.txt --scales 15"
LOCALISE = "localise --boxes images/boxes.txt --weights box.caffemodel --model box.prototxt"
FEATURES = f"features {MODEL} {MEAN} -o f.h5 --part both --data"
SSD = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 14 dim: 10 } } }
layer { name: "whole" type: "Pooling" bottom: "data" top: "whole"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "loc" type: "InnerProduct" bottom: "whole" top: "loc"
  inner_product_param { num_output: 4 } }
layer { name: "prob" type: "InnerProduct" bottom: "whole" top: "prob"
  inner_product_param { num_output: 3 } }
"""
DETECTIONS = """
layer { name: "prior" type: "PriorBox" bottom: "whole" bottom: "data" top: "prior"
  prior_box_param { min_size: 4 } }
layer { name: "out" type: "DetectionOutput" bottom: "loc" bottom: "prob" bottom: "prior" top: "out"
  detection_output_param { num_classes: 3 code_type: CENTER_SIZE } }
"""
needs_sklearn = pytest.mark.skipif(find_spec("sklearn") is None, reason="needs scikit-learn")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a verb beside images and nets; returns its error, empty when it succeeded."""
    monkeypatch.chdir(tmp_path)
    write_boxes(Path("images"))
    Path("deploy.prototxt").write_text(NET)
    small_model().net().save("net.caffemodel")
    model = box_model()
    Path("box.prototxt").write_text(format_text(model.definition.message))
    model.net().save("box.caffemodel")
    return verb_runner(capfd)


def test_a_missing_folder(run: Run) -> None:
    command = f"{EVALUATE} {MEAN} --output none/a.npz"
    assert f"there is no folder {Path.cwd()}/none; make it first" in run(command)
    Path("none").mkdir()
    assert not run(command)
    assert Path("none/a.npz").exists()


def test_sub_folders_of_some_classes(run: Run) -> None:
    for number in range(4):
        Path("some", f"c{number}").mkdir(parents=True)
        shutil.copy(f"images/{number}.png", f"some/c{number}")
    command = f"{EVALUATE} {MEAN} --data some"
    words = "make an empty sub-folder for each class without images, or give a list of images with"
    assert words in run(command)
    assert not run(f"{EVALUATE} {MEAN} --data images/list.txt")
    for number in (4, 5):
        Path("some", f"c{number}").mkdir()
    assert not run(command)


def test_means_of_other_channels(run: Run) -> None:
    write_mean(np.full((2, 14, 10), 100, np.float32), "two.binaryproto")
    words = "images of 3 channels; give one value for each channel, or one for all"
    assert words in run(f"{EVALUATE} --mean two.binaryproto")
    two = ImagePreparation(Preprocessing(mean=(1.0, 2.0)))
    pixels = np.zeros((14, 10, 3), np.uint8)
    words = "channels; give --mean one number, or one for each channel"
    refused(lambda: two.values(pixels), words)
    for mean in ("100", "100,110,120"):
        assert not run(f"{EVALUATE} --mean {mean}")
        numbers = tuple(map(float, mean.split(",")))
        values = ImagePreparation(Preprocessing(mean=numbers)).values(pixels)
        assert values[:, 0, 0].tolist() == [-numbers[0], -numbers[1 % len(numbers)], -numbers[-1]]


def test_a_net_of_two_outputs(run: Run) -> None:
    other = 'layer { name: "other" type: "Softmax" bottom: "fc6" top: "other" }'
    Path("deploy.prototxt").write_text(NET + other)
    words = "one with the scores of the classes; remove the layers of the others"
    assert words in run(f"{EVALUATE} {MEAN}")
    Path("deploy.prototxt").write_text(NET)
    assert not run(f"{EVALUATE} {MEAN}")


def test_a_net_that_is_no_detector(run: Run) -> None:
    Path("train.prototxt").write_text(SSD)
    Path("deploy.prototxt").write_text(SSD + DETECTIONS)
    Net("deploy.prototxt").save("net.caffemodel")
    detect = "detect images/0.png --weights net.caffemodel --preprocessing ssd --model"
    words = "give the definition for detection with --model: SSD's deploy.prototxt, which ends in"
    assert words in run(f"{detect} train.prototxt")
    assert not run(f"{detect} deploy.prototxt")


def test_regions_of_a_detector() -> None:
    boxes, scores, deltas = (np.ones((2, n), np.float32) for n in (4, 3, 16))
    words = "3 class probabilities and 16 deltas for each box; expected 12, or 8"
    refused(lambda: decode_regions(Regions(boxes, scores, deltas), 60, 80), words)
    for count in (12, 8):
        assert decode_regions(Regions(boxes, scores, deltas[:, :count]), 60, 80).shape == (2, 3, 4)


def test_names_in_the_order_of_the_net(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(b"weights")
    warning = order_warning(path, "VGG_CNN_S", names(ClassOrder.WORDNET))
    assert warning is not None
    assert warning.endswith("; give --labels with the names in the order of the net")
    assert order_warning(path, "VGG_CNN_S", names(ClassOrder.DEVKIT)) is None


def test_as_many_databases_as_blobs(run: Run) -> None:
    data = """layer { name: "data" type: "DummyData" top: "data"
      dummy_data_param { shape { dim: 1 dim: 3 dim: 14 dim: 10 } } }"""
    Path("data.prototxt").write_text(data + NET[NET.index('layer { name: "conv1"') :])
    extract = "extract_features net.caffemodel data.prototxt conv1,fc6"
    assert "1 databases (a); name one for each blob, separated by commas" in run(
        f"{extract} a 1 lmdb CPU"
    )
    assert not run(f"{extract} a,b 1 lmdb CPU")
    assert Path("b").is_dir()


def test_features_of_boxes(run: Run) -> None:
    words = "give a folder of PASCAL VOC as --data, and --voc Action/train"
    assert words in run(f"{FEATURES} images/list.txt --scales 15")
    write_voc(Path("VOC"), {"Action/train": ["2010_0"]}, count=1)
    assert not run(f"{FEATURES} VOC --voc Action/train --scales 15")


def write_clusters(path: str, per_class: int, several: bool = False) -> None:
    labels = np.arange(3 * per_class) % 3
    features = np.eye(3, dtype=np.float32)[labels]
    rows = np.where(labels[:, None] == np.arange(3), 1, -1) if several else labels
    save_features(FeatureSet(features, rows.astype(np.int64)), path)


@needs_sklearn
def test_training_sets_of_classifiers(run: Run) -> None:
    write_clusters("few.h5", 2)
    assert "too few to hold out 20 % of each class; give the cost with --cost" in run(
        "svm few.h5 few.h5"
    )
    assert not run("svm few.h5 few.h5 --cost 1")
    words = "training images of each class and one for the test are needed; make --train-per-class"
    assert words in run("svm few.h5 --cost 1 --train-per-class 2")
    assert not run("svm few.h5 --cost 1 --train-per-class 1")
    write_clusters("several.h5", 20, several=True)
    words = "random splits are for one label, give a file of training and one of test images"
    assert words in run("svm several.h5 --cost 1")
    assert not run("svm several.h5 several.h5 --cost 1")


def test_localisation(run: Run) -> None:
    net = f"localise --boxes images/boxes.txt {MEAN} --scales 17 --protocol gt-crop"
    words = "no multiple of 4; a localisation net predicts 4 numbers, or 4 for each class"
    assert words in run(f"{net} {MODEL}")
    for per_class in (True, False):
        model = box_model(per_class)
        Path("box.prototxt").write_text(format_text(model.definition.message))
        model.net().save("box.caffemodel")
        assert not run(f"{net} --weights box.caffemodel --model box.prototxt")


def test_posteriors_and_scales_of_localisation(run: Run) -> None:
    Path("images/fewer.txt").write_text("0.png 0\n1.png 1\n")
    assert not run(f"{EVALUATE} {MEAN} --data images/fewer.txt --output found.npz")
    command = f"{LOCALISE} {MEAN} --scales 17 --posteriors found.npz"
    assert "run caffecompat evaluate --output on the same images, with the same names" in run(
        command
    )
    assert not run(f"{EVALUATE} {MEAN} --output found.npz")
    assert not run(command)
    two = f"{LOCALISE} {MEAN} --scales 17,19 --posteriors found.npz"
    words = "a central crop is taken at one; give one, or --protocol full"
    assert words in run(f"{two} --protocol gt-crop")
    assert not run(f"{two} --protocol full")
    assert not run(f"{two} --protocol gt-crop --scales 17")


def test_a_box_net_with_global_pooling() -> None:
    """A pooling of one place can go; one of a map has its size instead."""
    text = format_text(box_model(False).definition.message)
    pooling = (
        'layer { name: "p" type: "Pooling" bottom: "%s" top: "p" pooling_param { pool: AVE %s } }'
    )
    whole = "global_pooling: true"
    words = "layer 'p': it pools whole maps; remove that layer, or give a global pooling the size"
    convolved = text.replace('type: "InnerProduct"', 'type: "Convolution"')
    for name, kernel in (("fc6", "kernel_h: 6 kernel_w: 4"), ("fc8", "kernel_size: 1")):
        convolved = convolved.replace(f'top: "{name}"\n  inner_product_param {{', "@", 1)
        start, rest = convolved.split("@")
        convolved = f'{start}top: "{name}" convolution_param {{ {kernel} {rest}'
    last = pooling % ("fc8", whole)
    refused(lambda: BoxNet(small_model(convolved + last)), words)
    assert BoxNet(small_model(convolved)).map_net.stride == (2, 2)
    before, after = text.split('layer {\n  name: "fc6"')
    after = 'layer {\n  name: "fc6"' + after.replace('bottom: "conv2"', 'bottom: "p"', 1)
    refused(lambda: BoxNet(small_model(before + pooling % ("conv2", whole) + after)), words)
    sized = before + pooling % ("conv2", "kernel_h: 6 kernel_w: 4") + after
    assert BoxNet(small_model(sized)).map_net.stride == (2, 2)


def test_an_unfinished_evaluation(tmp_path: Path) -> None:
    images = open_images(str(Path(write_boxes(tmp_path)).with_name("list.txt")))
    output = str(tmp_path / "found.npz")

    def evaluate(scale: int, output: str, end: bool = False) -> None:
        def progress(done: int, total: int, note: str) -> None:
            if end:
                raise KeyboardInterrupt

        options = EvaluationOptions(scales=(scale,))
        Evaluation(small_model(), PREPARATION, options).run(images, output, progress=progress)

    with pytest.raises(KeyboardInterrupt):
        evaluate(16, output, end=True)
    words = f"{output}.unfinished: an unfinished evaluation with scales [16], now it is [18]; "
    refused(lambda: evaluate(18, output), words + "give another --output, or remove the folder")
    evaluate(18, str(tmp_path / "other.npz"))
    shutil.rmtree(f"{output}.unfinished")
    evaluate(18, output)
    assert Path(output).read_bytes() == (tmp_path / "other.npz").read_bytes()
    images.close()

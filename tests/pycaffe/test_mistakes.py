"""Mistakes in scripts: the exception that pycaffe or numpy raises, with a sentence."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from caffecompat import CaffeError
from caffecompat import pycaffe as caffe
from tests.pycaffe.definitions import DEPLOY, built

ROWS = np.zeros((2, 3, 4, 4), np.float32)


def wrong_channels(net: caffe.Net) -> None:
    net.blobs["data"].reshape(2, 5, 4, 4)
    net.forward()


CASES: dict[str, tuple[Callable[[caffe.Net], object], type[Exception], str]] = {
    "unknown blob": (lambda n: n.blobs["dta"], KeyError, "no blob 'dta'.*did you mean 'data'"),
    "a name of 2014": (lambda n: n.set_phase_test(), AttributeError, "caffe.Net.file, caffe.TEST"),
    "a method of Transformer": (lambda n: n.set_raw_scale("data", 255), AttributeError, "Transfo"),
    "an unknown name": (lambda n: n.blob, AttributeError, "'Net' object has no attribute 'blob'"),
    "unknown parameters": (lambda n: n.params["conw"], KeyError, "'conw'.*did you mean 'conv'"),
    "unknown start": (lambda n: n.forward(start="cnv"), ValueError, "no layer 'cnv'.*'conv'"),
    "unknown end": (lambda n: n.backward(end="x"), ValueError, "no layer 'x'"),
    "unknown output": (lambda n: n.forward(blobs=["x"]), KeyError, "no blob 'x'"),
    "unknown diff": (lambda n: n.backward(diffs=["x"]), KeyError, "no blob 'x'"),
    "unknown input": (lambda n: n.forward(x=ROWS), Exception, "given for x;.*inputs.*: data$"),
    "unknown top": (lambda n: n.backward(x=ROWS), Exception, "given for x;.*outputs.*: prob$"),
    "batch": (lambda n: n.forward(data=ROWS[:1]), Exception, "'data' has a batch of 2"),
    "shape of an input": (
        lambda n: n.forward(data=ROWS[:, :2]),
        ValueError,
        r"^blob 'data': could not broadcast .* \(2,2,4,4\)",
    ),
    "shape": (
        lambda n: n.blobs["prob"].data.__setitem__(..., np.zeros(7)),
        ValueError,
        r"^blob 'prob': could not broadcast",
    ),
    "shape of a part": (
        lambda n: n.blobs["prob"].data[0].__setitem__(..., np.zeros(7)),
        ValueError,
        r"^blob 'prob': could not broadcast",
    ),
    "shape of a gradient": (
        lambda n: n.params["conv"][0].diff.__setitem__(..., np.zeros(7)),
        ValueError,
        r"^diff of parameter 0 of layer 'conv': could not broadcast",
    ),
    "dtype": (
        lambda n: n.blobs["prob"].data.__setitem__(..., "text"),
        ValueError,
        "^blob 'prob': could not convert string",
    ),
    "attribute": (lambda n: setattr(n.blobs["prob"], "data", 0), AttributeError, "data"),
    "negative extent": (lambda n: n.blobs["data"].reshape(-1), ValueError, "'data'.*at least 0"),
    "parameter": (
        lambda n: n.params["conv"][0].reshape(3),
        ValueError,
        "parameter keeps its number",
    ),
    "sharing": (
        lambda n: n.share_with(n.layers[0]),
        TypeError,
        "share_with takes a caffe.Net, found B",
    ),
    "range": (lambda n: n._forward(-1, 2), RuntimeError, "layers 0 to 4, found -1 to 2"),
    "range of backward": (lambda n: n._backward(9, 0), RuntimeError, "layers 0 to 4, found 0 to"),
    "pickle": (pickle.dumps, RuntimeError, "a Net cannot be copied or pickled"),
    "copy": (lambda n: copy.deepcopy(n.blobs), RuntimeError, "a Blob cannot be copied"),
    "arrays": (lambda n: n.set_input_arrays(ROWS, ROWS), RuntimeError, "MemoryData"),
    "sizes": (
        wrong_channels,
        ValueError,
        r"layer 'conv' \(Convolution\): .*2x5x4x4",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_mistakes(name: str, tmp_path: Path) -> None:
    call, kind, sentence = CASES[name]
    net = built(tmp_path, DEPLOY)
    with pytest.raises(kind, match=sentence):
        call(net)
    assert net.forward is not None
    if name not in ("sizes",):
        assert net.forward(data=ROWS)["prob"].shape == (2, 2, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "keywords", "kind", "sentence"),
    [
        (("NET",), {}, TypeError, "a phase is needed, none was given; write Net"),
        (("NET", 2), {}, TypeError, "a phase is needed, found 2"),
        (("NET", True), {}, TypeError, "a phase is needed, found True"),
        ((), {"phase": 0}, TypeError, "network_file must be the path of a file, found NoneType"),
        (("NET", 0), {"phase": 1}, TypeError, "argument 'phase' is given twice"),
        (("NET", 0), {"weight": "w"}, TypeError, "argument 'weight' is unknown"),
        (("NET", 0, "w"), {}, TypeError, "level must be an integer, found 'w'"),
        (("NET", 0), {"stages": "a"}, TypeError, r"stages must be a list.*\['a'\]"),
        (("NET", 0, 0, [], None, 1), {}, TypeError, "6 arguments were given"),
        (("missing.prototxt", 0), {}, RuntimeError, "missing.prototxt: there is no such file"),
        (("NET", "missing", 0), {}, RuntimeError, "missing: there is no such file"),
    ],
)
def test_mistakes_in_the_constructor(
    arguments: tuple[object, ...],
    keywords: dict[str, object],
    kind: type[Exception],
    sentence: str,
    tmp_path: Path,
) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(DEPLOY)
    given = [str(path) if value == "NET" else value for value in arguments]
    with pytest.raises(kind, match=sentence) as caught:
        caffe.Net(*given, **keywords)
    assert isinstance(caught.value, CaffeError)

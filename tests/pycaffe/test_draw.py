"""``caffe.draw``: labels, and what Graphviz makes of them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from caffecompat.errors import FileProblem, MissingExtra
from caffecompat.pycaffe import draw
from caffecompat.pycaffe.proto import caffe_pb2

NET = r"""
name: 'a "net"'
layer { name: 'd|{1}' type: 'Data' top: 'd' top: 'label' data_param { batch_size: 7 } }
layer { name: 'c' type: 'Convolution' bottom: 'd' top: 'c' param { lr_mult: 0.5 }
  convolution_param { num_output: 4 kernel_h: 3 kernel_w: 5 stride: 2 pad: 1 pad: 0 dilation: 2 } }
layer { name: 'r' type: 'ReLU' bottom: 'c' top: 'c' }
layer { name: 'p' type: 'Pooling' bottom: 'c' top: 'p' pooling_param { pool: AVE kernel_size: 3 } }
layer { name: 'ip' type: 'InnerProduct' bottom: 'p' top: 'ip'
  inner_product_param { num_output: 9 } }
layer { name: 'loss' type: 'SoftmaxWithLoss' bottom: 'ip' bottom: 'label' top: 'loss'
  include { phase: TRAIN } }
layer { name: 'prob' type: 'Softmax' bottom: 'ip' top: 'prob' exclude { phase: TRAIN } }
"""


@pytest.fixture
def net() -> Any:
    return text_format.Parse(NET, caffe_pb2.NetParameter())


def test_labels(net: Any) -> None:
    data, conv, relu, pool, ip, *_ = net.layer
    assert draw.get_layer_label(relu, "LR") == r'"r\n(ReLU)"'
    assert draw.get_layer_label(conv, "TB", display_lrm=True) == (
        '"c (Convolution) kernel size: 3x5 stride: 2 pad: 1x0 dilation: 2 lr mult: 0.5, 1.0"'
    )
    assert draw.get_layer_label(pool, "BT") == '"p (Pooling AVE) kernel size: 3 stride: 1 pad: 0"'
    assert draw.get_layer_label(data, "TB") == r'"d\|\{1\} (Data)"'
    labels = [draw.get_edge_label(layer) for layer in (data, conv, relu, ip)]
    assert labels == ["Batch 7", "4", '""', "9"]
    rates = [draw.get_layer_lr_mult(layer) for layer in (conv, ip, relu)]
    assert rates == [(0.5, 1), (1, 1), (1, 1)]
    ip.param.add(lr_mult=0)
    ip.param.add(lr_mult=0)
    assert draw.get_layer_label(ip, "TB", display_lrm=True) == '"ip (InnerProduct)"'
    colors = {draw.choose_color_by_layertype(layer.type) for layer in (data, conv, pool, ip)}
    assert len(colors) == 4


def test_graph(net: Any) -> None:
    pytest.importorskip("pydot")
    names = {
        phase: {
            node.get_name() for node in draw.get_pydot_graph(net, "LR", phase=phase).get_nodes()
        }
        for phase in (None, caffe_pb2.TRAIN, caffe_pb2.TEST)
    }
    assert names[None] - names[caffe_pb2.TRAIN] == {'"prob_Softmax"', '"prob_blob"'}
    assert names[None] - names[caffe_pb2.TEST] == {'"loss_SoftmaxWithLoss"', '"loss_blob"'}
    plain = draw.get_pydot_graph(net, "LR", label_edges=False)
    assert {edge.get("label") for edge in plain.get_edges()} == {'""'}


def test_files(net: Any, tmp_path: Path) -> None:
    pytest.importorskip("pydot")
    if shutil.which("dot") is None:
        pytest.skip("Graphviz is not installed")
    draw.draw_net_to_file(net, tmp_path / "net.svg", "TB")
    text = (tmp_path / "net.svg").read_text()
    assert "Pooling AVE" in text
    assert "d|{1} (Data)" in text
    assert draw.draw_net(net, "LR").startswith(b"\x89PNG")
    with pytest.raises(draw.DrawingError, match="Graphviz cannot draw the net as 'nope'"):
        draw.draw_net_to_file(net, tmp_path / "net.nope")
    with pytest.raises(FileProblem, match="needs a suffix"):
        draw.draw_net_to_file(net, tmp_path / "net")
    assert [path.name for path in tmp_path.iterdir()] == ["net.svg"]


def test_without_graphviz(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pydot")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(draw.DrawingError, match="program dot is not on the PATH"):
        draw.draw_net(net, "LR")


def test_without_pydot(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydot", None)
    with pytest.raises(MissingExtra, match=r"caffecompat\[draw\]"):
        draw.draw_net(net, "LR")

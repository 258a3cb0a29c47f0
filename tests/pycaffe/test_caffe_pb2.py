"""``caffe.proto.caffe_pb2``: the names, the text and the bytes that scripts rely on."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from google.protobuf import text_format

from caffecompat.pycaffe.proto import caffe_pb2

NET = "name: 'n' layer { name: 'c' type: 'Pooling' pooling_param { pool: AVE kernel_size: 3 } }"


def test_names() -> None:
    assert (caffe_pb2.TRAIN, caffe_pb2.TEST) == (0, 1)
    assert caffe_pb2.Phase.Name(1) == "TEST"
    assert caffe_pb2.PoolingParameter.PoolMethod.items()[0] == ("MAX", 0)
    assert caffe_pb2.PoolingParameter.AVE == 1
    assert caffe_pb2.V1LayerParameter.LayerType.Value("CONVOLUTION") == 4
    assert caffe_pb2.V1LayerParameter.CONVOLUTION == 4
    names = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name
    assert names["convolution_param"].number == 106
    assert caffe_pb2._LAYERPARAMETER is caffe_pb2.LayerParameter.DESCRIPTOR
    assert caffe_pb2.DESCRIPTOR.message_types_by_name["Datum"].full_name == "caffe.Datum"
    with pytest.raises(AttributeError, match="no attribute 'NettParameter'"):
        _ = caffe_pb2.NettParameter


def test_star_import() -> None:
    names: dict[str, Any] = {}
    exec("from caffecompat.pycaffe.proto.caffe_pb2 import *", names)
    assert names["SolverParameter"]().solver_mode == names["SolverParameter"].GPU


def test_text_in_and_out() -> None:
    net = caffe_pb2.NetParameter()
    text_format.Merge(NET, net)
    assert net.layer[0].pooling_param.pool == caffe_pb2.PoolingParameter.AVE
    again = text_format.Parse(text_format.MessageToString(net), caffe_pb2.NetParameter())
    assert again == net
    with pytest.raises(text_format.ParseError):
        text_format.Merge("lair { }", caffe_pb2.NetParameter())


def test_text_of_floats_is_that_of_pycaffe() -> None:
    layer = caffe_pb2.LayerParameter(name="it's")
    layer.transform_param.scale = 1 / 255
    layer.power_param.power = 2
    text = str(layer)
    assert "scale: 0.003921568859368563\n" in text
    assert "power: 2.0\n" in text
    assert 'name: "it\\\'s"\n' in text
    assert text_format.Parse(text, caffe_pb2.LayerParameter()) == layer


def test_bytes() -> None:
    net = text_format.Parse(NET, caffe_pb2.NetParameter())
    data = net.SerializeToString()
    assert data == b"\n\x01n\xa2\x06\x13\n\x01c\x12\x07Pooling\xca\x07\x04\x08\x01\x10\x03"
    assert caffe_pb2.NetParameter.FromString(data) == net


def test_copies() -> None:
    net = text_format.Parse(NET, caffe_pb2.NetParameter())
    assert copy.deepcopy(net) == net
    assert pickle.loads(pickle.dumps(net)) == net


def test_fields_of_forks() -> None:
    """They are there by name, under numbers that BVLC Caffe ignores."""
    layer = caffe_pb2.LayerParameter(name="n")
    layer.norm_param.across_spatial = False
    assert caffe_pb2.LayerParameter.FromString(layer.SerializeToString()) == layer
    assert layer.DESCRIPTOR.fields_by_name["norm_param"].number >= 20000

"""Which attributes of pycaffe's objects the doctor knows, without a run of the script."""

from __future__ import annotations

import ast
import inspect
import textwrap
from contextlib import suppress

import pytest

from caffecompat import pycaffe
from caffecompat.doctor.pycaffe_names import missing_names
from caffecompat.pycaffe import io, net_spec

PACKAGE = pycaffe.__name__


def missing(*lines: str) -> list[str]:
    """What a script uses of pycaffe and does not find."""
    return [name for _, name in missing_names(ast.parse("\n".join(lines)))]


def classes() -> set[type]:
    """The classes that scripts use, but for those of messages."""
    found: set[type] = set()
    for module in (pycaffe, io, net_spec):
        for name in dir(module):
            with suppress(AttributeError, ImportError):  # a library that is not installed
                kind = getattr(module, name)
                if isinstance(kind, type) and kind.__module__.startswith(PACKAGE):
                    found.add(kind)
    return found


def set_by_methods(kind: type) -> set[str]:
    """The public attributes that the methods of a class of pycaffe set on its instances."""
    found: set[str] = set()
    for one in kind.__mro__:
        if one.__module__.startswith(PACKAGE):
            for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(one)))):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                    owner, _, name = ast.unparse(node).rpartition(".")
                    found.update([name] if owner == "self" and name[0] != "_" else [])
    return found


def test_what_methods_set_is_annotated() -> None:
    """Else the doctor says of it that it does not exist."""
    checked = 0
    for kind in classes():
        module = kind.__module__.replace(PACKAGE, "caffe", 1)
        for name in set_by_methods(kind):
            script = [f"from {module} import {kind.__name__} as Kind", "one = Kind()"]
            assert not missing(*script, f"one.{name}"), kind
            assert missing(*script, f"one.{name}_") == [f"one.{name}_"]
            checked += 1
    assert checked > 20


def test_names_that_nets_of_pycaffe_keep() -> None:
    script = ["import caffe", "net = caffe.Classifier('a', 'b')"]
    assert not missing(*script, "net._layer_dict, net._input_list, net._output_list")
    assert missing(*script, "net._blob_dict") == ["net._blob_dict"]


@pytest.mark.parametrize("imported", ["import caffe", "from caffe import proto as p"])
def test_fields_of_messages(imported: str) -> None:
    owner = "caffe.proto" if imported == "import caffe" else "p"
    script = [imported, f"datum = {owner}.caffe_pb2.Datum()", "datum.label = 3"]
    assert not missing(*script, "print(datum.label, datum.channels, datum.SerializeToString())")
    assert missing(*script, "print(datum.labels)") == ["datum.labels"]


def test_values_of_instances_are_not_attributes_of_the_class() -> None:
    script = ["import caffe", "print(caffe.Detector.crop_mean, caffe.Detector.detect_windows)"]
    assert missing(*script) == ["caffe.Detector.crop_mean"]


def test_tops_of_a_net_spec() -> None:
    script = ["import caffe", "n = caffe.NetSpec()", "n.data, n['fc'] = 1, 2"]
    assert not missing(*script, "print(n.data, n.fc, n.tops, n.to_proto())")


def test_attributes_that_the_script_gives_an_object_exist() -> None:
    """py-faster-rcnn's tools call their net by a name."""
    start = ("import caffe", "net = caffe.Net('a', caffe.TEST)")
    assert missing(*start, "net.name = 'zf'", "print(net.name, net.nam)") == ["net.nam"]
    assert missing(*start, "print(net.name)") == ["net.name"]
    assert missing("import caffe", "caffe.naem = 3") == []

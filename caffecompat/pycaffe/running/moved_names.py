"""Names that scripts of Caffe's time use and that left Python's library, numpy and scipy."""

from __future__ import annotations

import ast
import importlib
import re
import warnings
from collections.abc import Iterator
from typing import TypeGuard

from caffecompat.pycaffe.running.removed_importers import IMPORTERS, READ_NET, reads_caffemodel

_ABSTRACT = (
    "Callable",
    "Iterable",
    "Iterator",
    "Mapping",
    "MutableMapping",
    "MutableSequence",
    "Sequence",
)
# Name in full -> what to write.
MOVED = {
    "cv2.CV_AA": "cv2.LINE_AA",
    "cv2.CV_LOAD_IMAGE_COLOR": "cv2.IMREAD_COLOR",
    "cv2.CV_LOAD_IMAGE_GRAYSCALE": "cv2.IMREAD_GRAYSCALE",
    "cv2.CV_LOAD_IMAGE_UNCHANGED": "cv2.IMREAD_UNCHANGED",
    "inspect.getargspec": "inspect.getfullargspec",
    "itertools.ifilter": "filter",
    "itertools.imap": "map",
    "itertools.izip": "zip",
    "itertools.izip_longest": "itertools.zip_longest",
    "os.errno": "errno, after 'import errno'",
    "os.getcwdu": "os.getcwd",
    "PIL.Image.ANTIALIAS": "PIL.Image.LANCZOS",
    "string.join": "separator.join(words)",
    "string.letters": "string.ascii_letters",
    "string.lowercase": "string.ascii_lowercase",
    "string.maketrans": "str.maketrans",
    "string.uppercase": "string.ascii_uppercase",
    "string.replace": "text.replace(old, new)",
    "string.split": "text.split()",
    "sys.maxint": "sys.maxsize",
    "sys.setdefaultencoding": "nothing, leave it out: text is Unicode",
    "time.clock": "time.perf_counter",
    "urllib.quote": "urllib.parse.quote, after 'import urllib.parse'",
    "urllib.unquote": "urllib.parse.unquote, after 'import urllib.parse'",
    "urllib.urlencode": "urllib.parse.urlencode, after 'import urllib.parse'",
    "urllib.urlopen": "urllib.request.urlopen, after 'import urllib.request'",
    "urllib.urlretrieve": "urllib.request.urlretrieve, after 'import urllib.request'",
    "numpy.alltrue": "numpy.all",
    "numpy.asscalar": "array.item()",
    "numpy.bool": "bool",
    "numpy.bool8": "numpy.bool_",
    "numpy.complex": "complex",
    "numpy.complex_": "numpy.complex128",
    "numpy.cumproduct": "numpy.cumprod",
    "numpy.float": "float",
    "numpy.float_": "numpy.float64",
    "numpy.in1d": "numpy.isin",
    "numpy.Inf": "numpy.inf",
    "numpy.infty": "numpy.inf",
    "numpy.int": "int",
    "numpy.int0": "numpy.intp",
    "numpy.long": "int",
    "numpy.NaN": "numpy.nan",
    "numpy.NAN": "numpy.nan",
    "numpy.object": "object",
    "numpy.product": "numpy.prod",
    "numpy.rank": "numpy.ndim",
    "numpy.row_stack": "numpy.vstack",
    "numpy.sometrue": "numpy.any",
    "numpy.str": "str",
    "numpy.string_": "numpy.bytes_",
    "numpy.trapz": "numpy.trapezoid",
    "numpy.unicode": "str",
    "numpy.unicode_": "numpy.str_",
    "scipy.misc.imread": "cv2.imread(path)[:, :, ::-1], after 'import cv2'",
    "scipy.misc.imresize": "cv2.resize(image, (width, height)), after 'import cv2'",
    "scipy.misc.imsave": "cv2.imwrite(path, image[:, :, ::-1]), after 'import cv2'",
    "scipy.misc.logsumexp": "scipy.special.logsumexp, after 'import scipy.special'",
}
MOVED |= {f"collections.{name}": f"collections.abc.{name}" for name in _ABSTRACT}
NO_TOSTRING = "arrays have no tostring() any more: write tobytes()"
_NO_ATTRIBUTE = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")


def moved_uses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The moved names that a script uses, with their lines, but for those that are still there."""
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                aliases[alias.asname or parts[0]] = alias.name if alias.asname else parts[0]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                aliases[alias.asname or alias.name] = full
                if hint := hint_for(full):
                    yield node.lineno, hint
    for node in ast.walk(tree):
        if _calls_tostring(node) and not _exists("numpy.ndarray.tostring"):
            yield node.func.end_lineno or node.lineno, NO_TOSTRING
        if isinstance(node, ast.Attribute) and (hint := hint_for(_full_name(node, aliases))):
            yield node.lineno, hint
        if isinstance(node, ast.Call) and _reads_caffemodel(node, _full_name(node.func, aliases)):
            yield node.lineno, READ_NET


def _reads_caffemodel(call: ast.Call, name: str) -> bool:
    """Whether OpenCV's readNet is called with a caffemodel, which this OpenCV does not read."""
    return reads_caffemodel(call, name) and not _exists("cv2.dnn.readNetFromCaffe")


def _calls_tostring(node: ast.AST) -> TypeGuard[ast.Call]:
    """Whether a node is ``array.tostring()``; that of ElementTree has an argument."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "tostring"
        and not node.args
    )


def _full_name(node: ast.expr, aliases: dict[str, str]) -> str:
    """The dotted name with modules by their own names; empty for what is no such name."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id, "")
    if isinstance(node, ast.Attribute):
        owner = _full_name(node.value, aliases)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def hint_for(name: str) -> str | None:
    """What to write for a name that its module does not have any more; None for other names."""
    remedy = MOVED.get(name) or IMPORTERS.get(name)
    if remedy is None or _exists(name):
        return None
    module, _, last = name.rpartition(".")
    return f"{module} has no {last} any more: write {remedy}"


def _exists(name: str) -> bool:
    module, _, last = name.rpartition(".")
    if name == "numpy.ndarray.tostring":
        import numpy

        return hasattr(numpy.ndarray, last)
    if module.startswith("scipy"):  # its own import takes long, and warns
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, about names that it will drop
        try:
            return hasattr(importlib.import_module(module), last)
        except ImportError:  # it is not installed, or a part of it
            return False


def attribute_hint(error: AttributeError) -> str | None:
    """What to write for an attribute that a module does not have any more."""
    if error.name == "tostring":
        return NO_TOSTRING
    if "'Dataset' object has no attribute 'value'" in str(error):
        return "h5py's datasets have no value any more: write dataset[()]"
    found = _NO_ATTRIBUTE.search(str(error))
    return hint_for(f"{found[1]}.{found[2]}") if found else None


def import_hint(error: ImportError) -> str | None:
    """The same for a name that cannot be imported from a module."""
    found = re.search(r"cannot import name '(\w+)' from '([\w.]+)'", str(error))
    return hint_for(f"{found[2]}.{found[1]}") if found else None

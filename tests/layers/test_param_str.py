"""param_str of well-known Python layers."""

from __future__ import annotations

import re
from typing import Any

import pytest

from caffecompat.layers._param_str import MAX_LENGTH, parse_param_str


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("'feat_stride': 16", {"feat_stride": 16}),
        (
            "'feat_stride': 16 \n'scales': !!python/tuple [4, 8, 16, 32]",
            {"feat_stride": 16, "scales": [4, 8, 16, 32]},
        ),
        (
            "{'a': 1, \"b\": [0.5, [2., -1e-3]], c: x y}",
            {"a": 1, "b": [0.5, [2.0, -1e-3]], "c": "x y"},
        ),
        ("a: true # yes\n\nb: null\n# c: 1\nd: 'it''s'", {"a": True, "b": None, "d": "it's"}),
        ("scales:\n  - 8\n  - 16\nlast: no", {"scales": [8, 16], "last": False}),
        ("empty:\nlist: [\n 1,\n 2 ]", {"empty": None, "list": [1, 2]}),
        ("path: /data/a:b.txt", {"path": "/data/a:b.txt"}),
        ("{}", {}),
    ],
)
def test_values(text: str, expected: dict[str, Any]) -> None:
    assert parse_param_str(text) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("16", "it has '16' where a key and a colon are expected"),
        ("a: [1, 2", "it ends where a comma or ] is expected"),
        ("a: [1,", "it ends where a value is expected"),
        ("a: !!python/object/apply:os.system ['ls']", "where a value is expected"),
        ("a: &x 1", "it has '&x 1' where a value is expected"),
        ("a: [1] b", "it has 'b' after a value"),
        ("{a: 1} b", "after the closing }"),
        ("a: " + "[" * 9, "nested more than 8 times"),
        ("a" * (MAX_LENGTH + 1), "it has 65537 characters"),
    ],
)
def test_refused(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        parse_param_str(text)

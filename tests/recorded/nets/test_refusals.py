"""Nets that BVLC Caffe 1.0 refuses are refused here too, in a sentence that names the file.

Exceptions are limits of its implementation that ours does not have.
"""

from __future__ import annotations

import os

import pytest

from caffecompat import Net
from caffecompat.errors import CaffeError
from caffecompat.net.analysis.replay import read_case
from tests.recorded.cases import Case
from tests.recorded.exceptions import EXCEPTIONS
from tests.sentences import assert_one_sentence


@pytest.mark.recorded_cases("refusals")
def test_refused(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case.path.parents[1])
    if case.name in EXCEPTIONS:
        assert case.facts["kind"] == "artefact"
        run(case)
        return
    with pytest.raises(CaffeError) as caught:
        run(case)
    sentence, _, layer = str(caught.value).partition("\n")
    assert_one_sentence(sentence)
    assert not layer or "@register(" in layer  # below an unknown type stands one to start from
    assert case.path.name in str(caught.value)


def run(case: Case) -> None:
    net = Net(os.fspath(case.path), phase=case.facts["phase"], strict=True)
    recorded = case.path.with_suffix(".npz")
    values = read_case(recorded) if recorded.exists() else {}
    net.forward(**{key[3:]: value for key, value in values.items() if key[:3] == "in/"})
    if case.facts["stage"] == "backward":
        net.backward()

"""The stage of tools/gpu_check.py beside ONNX Runtime and TensorRT, rehearsed on the CPU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tools.gpu import inference
from tools.gpu.all_stages import all_stages
from tools.gpu.inference import ONNX_RUNTIME, TENSORRT, Runtime
from tools.gpu.one_stage import Row, Work

TRIAL = Work("cpu", True, Path("rows.json"))
ON_GPU = Work("cuda", True, Path("rows.json"))


@pytest.mark.parametrize("runtime", [ONNX_RUNTIME, TENSORRT], ids=["ONNX Runtime", "TensorRT"])
def test_a_trial_measures_the_part_for_the_cpu(runtime: Runtime) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    (row,) = runtime.rows(TRIAL)
    assert row.what.startswith(f"A, batch 1, fp32, beside {runtime.title}, here its CPU part")
    assert min(row.figures.values()) > 0
    assert row.figures["ratio"] == pytest.approx(row.figures["ours"] / row.figures["other"])


@pytest.mark.parametrize(
    ("runtime", "provider"),
    [(ONNX_RUNTIME, "CUDAExecutionProvider"), (TENSORRT, "TensorrtExecutionProvider")],
    ids=["ONNX Runtime", "TensorRT"],
)
def test_a_provider_that_is_missing_is_named(
    runtime: Runtime, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    onnxruntime: Any = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    sentence = f"ONNX Runtime has no {provider}; its package onnxruntime-gpu has it"
    assert list(runtime.rows(ON_GPU)) == [Row(runtime.title, sentence)]
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert list(runtime.rows(ON_GPU)) == [Row(runtime.title, "onnxruntime is not installed")]


def test_a_provider_whose_libraries_are_missing_is_not_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    onnxruntime: Any = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    asked: list[Any] = []

    class Session:
        """What ONNX Runtime makes without a word but in its log."""

        def __init__(self, path: str, providers: list[Any]) -> None:
            asked.extend(providers)

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    on_the_cpu = inference._ours

    def ours(work: Work, sizes: inference.Sizes, batch: int, precision: str) -> Any:
        return on_the_cpu(TRIAL, sizes, batch, "fp32")

    monkeypatch.setattr(inference, "_ours", ours)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT.provider])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    rows = list(TENSORRT.rows(ON_GPU))
    assert [row.what.split(", ")[2] for row in rows] == ["tf32", "fp16"]
    sentence = "ONNX Runtime cannot load TensorrtExecutionProvider: see its log"
    assert {row.value for row in rows} == {sentence}
    assert asked == [(TENSORRT.provider, {}), (TENSORRT.provider, {"trt_fp16_enable": "True"})]


def test_it_has_a_stage() -> None:
    (stage,) = (stage for stage in all_stages() if stage.name == "inference-tensorrt")
    assert (stage.module, stage.check) == ("inference", "TensorRT")

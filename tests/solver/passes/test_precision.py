"""Precisions, the order of channels in memory, CUDA graphs."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffecompat.cli.main import main
from caffecompat.errors import CaffeError, NetError, SolverError
from caffecompat.net import Net
from caffecompat.net.execution.gpu.cuda_graph import CapturedPass
from caffecompat.net.execution.gpu.cudnn import NoAlgorithm
from caffecompat.net.execution.gpu.tf32 import products_in_tf32
from caffecompat.net.fx_program import TF32_ADVICE
from caffecompat.reporting.glog import LOGGER
from caffecompat.solver import Solver
from caffecompat.solver.optim.grad_scaler import GradScaler
from caffecompat.solver.setup.compute import ComputeOptions
from caffecompat.weights import load_weights, read_state
from tests.solver.log.caffe_log import Lines
from tests.solver.small import SOLVER, write_training

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


NO_ENGINE = "GET was unable to find an engine to execute this computation"


def trained(path: Path, steps: int = 6, **options: Any) -> tuple[list[float], Solver]:
    """The losses of the first iterations; fp16 starts at a scale that these gradients stand."""
    solver = Solver(path, **options)
    if solver._train_step._grad_scaler is not None:
        solver._train_step._grad_scaler.value.fill_(256)
    losses = []
    for _ in range(steps):
        solver.step(1)
        losses.append(solver.loss)
    return losses, solver


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sixteen_bits(precision: str, tmp_path: Path) -> None:
    path = write_training(tmp_path / "run")
    whole, _ = trained(path)
    half, solver = trained(path, precision=precision)
    np.testing.assert_allclose(half, whole, rtol=0.03)
    assert half != whole
    for entry in solver.net.learnable:
        assert entry.tensor.dtype == torch.float32
        assert entry.tensor.grad is None or entry.tensor.grad.dtype == torch.float32
    assert all(array.dtype == torch.float32 for array in solver.history)
    assert solver.net.run(0).loss.dtype == torch.float32


def test_a_loss_sees_whole_numbers(tmp_path: Path) -> None:
    """Scores come in 16 bits, the loss and its labels are computed in 32."""
    path = write_training(tmp_path / "run")
    solver = Solver(path, precision="bf16")
    seen: list[torch.dtype] = []
    layers = {built.name: built.module for built in solver.net.layers}
    score, loss = layers["score"], layers["loss"]
    assert score is not None
    assert loss is not None
    score.register_forward_hook(lambda module, bottoms, top: seen.append(top.dtype))
    loss.register_forward_pre_hook(lambda module, bottoms: seen.append(bottoms[0].dtype))
    solver.step(1)
    assert seen == [torch.bfloat16, torch.float32] * 2


def test_a_resumed_run_in_bf16(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run")
    _, whole = trained(path, 8, precision="bf16")
    state = tmp_path / "run" / "snap_iter_5.solverstate"
    _, resumed = trained(path, 3, precision="bf16", snapshot=state)
    for ours, theirs in zip(resumed.net.learnable, whole.net.learnable, strict=True):
        assert torch.equal(ours.tensor, theirs.tensor)


def test_the_loss_scale(lines: Lines) -> None:
    scale = GradScaler(torch.device("cpu"), "solver", LOGGER)
    gradient = torch.tensor([65536.0, -131072.0])
    assert scale.unscale([gradient], 0)
    assert gradient.tolist() == [1, -2]
    for i in range(1, 2000):
        assert scale.unscale([torch.ones(2)], i)
    assert float(scale.value) == 2**17
    place = scale.value.data_ptr()
    assert not scale.unscale([torch.ones(1), torch.tensor([1, float("inf")])], 7)
    assert float(scale.value) == 2**16
    assert scale.value.data_ptr() == place
    assert lines.events == [
        "Iteration 7: gradients overflow in fp16, no update is made; the loss scale is 65536 now"
    ]
    scale.value.fill_(2.0**-14)
    with pytest.raises(SolverError, match="whatever the loss scale"):
        scale.unscale([torch.tensor([float("nan")])], 8)


def test_an_overflow_changes_nothing(tmp_path: Path, lines: Lines) -> None:
    solver = Solver(write_training(tmp_path / "run"), precision="fp16")
    solver.step(2)
    before = [entry.tensor.clone() for entry in solver.net.learnable if entry.lr_mult]
    history = [array.clone() for array in solver.history]
    assert solver._train_step._grad_scaler is not None
    solver._train_step._grad_scaler.value.fill_(2.0**120)
    solver.step(1)
    assert lines.containing("gradients overflow in fp16")
    after = [entry.tensor for entry in solver.net.learnable if entry.lr_mult]
    assert all(map(torch.equal, before, after))
    assert all(map(torch.equal, history, solver.history))
    assert solver.iter == 3


@pytest.mark.parametrize("more", ["", "snapshot_format: HDF5"])
def test_a_resumed_training_keeps_the_loss_scale(tmp_path: Path, more: str) -> None:
    path = write_training(tmp_path / "run", "random_seed: 7 " + more)
    solver = Solver(path, precision="fp16")
    assert solver._train_step._grad_scaler is not None
    solver._train_step._grad_scaler.value.fill_(2.0**120)
    solver.step(4)
    _, state = solver.snapshot()
    resumed = Solver(path, snapshot=state, precision="fp16")
    resumed.step(3)
    solver.step(3)
    scales = [s._train_step._grad_scaler for s in (solver, resumed)]
    assert [float(s.value) for s in scales if s] == [2.0**113] * 2
    assert len({s.good_iterations for s in scales if s}) == 1
    for ours, theirs in zip(resumed.net.learnable, solver.net.learnable, strict=True):
        assert torch.equal(ours.tensor, theirs.tensor)
    assert read_state(state).loss_scale == 2.0**116


def test_tf32_only_while_asked_for(tmp_path: Path) -> None:
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    solver = Solver(write_training(tmp_path / "run"), precision="tf32")
    seen: list[bool] = []
    solver.net.layers[0].source.read = _spy(solver.net.layers[0].source, seen)  # type: ignore
    solver.step(1)
    assert seen
    assert all(seen)
    assert [flag.allow_tf32 for flag in flags] == before
    with products_in_tf32(False):
        assert [flag.allow_tf32 for flag in flags] == before


def _spy(source: Any, seen: list[bool]) -> Any:
    read = source.read

    def spying(index: int) -> Any:
        seen.append(torch.backends.cuda.matmul.allow_tf32)
        return read(index)

    return spying


def test_channels_last(tmp_path: Path) -> None:
    """Another order in memory, the same shapes, numbers and files."""
    path = write_training(tmp_path / "run")
    losses, plain = trained(path)
    other, solver = trained(path, channels_last=True)
    np.testing.assert_allclose(other, losses, rtol=1e-5)
    form = torch.channels_last
    weight = solver.net.params["conv"][0]
    assert weight.is_contiguous(memory_format=form)
    assert not weight.is_contiguous()
    assert solver.test_nets[0].params["conv"][0] is weight
    assert solver.net.feeds(0)[0].is_contiguous(memory_format=form)
    model, state = solver.snapshot()
    stored = load_weights(model)["conv"].blobs[0]
    np.testing.assert_array_equal(stored, weight.detach().numpy())
    np.testing.assert_allclose(stored, plain.net.params["conv"][0].detach().numpy(), rtol=1e-4)
    again = Solver(path, snapshot=state)
    for ours, theirs in zip(again.history, solver.history, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own imports
def test_no_advice_to_use_tf32(tmp_path: Path) -> None:
    """Only that one sentence of the compiler is left out, and only its own."""
    path = tmp_path / "net.prototxt"
    path.write_text('layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 } } }')
    module = "torch._inductor.compile_fx"
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    assert f'"{TF32_ADVICE}' in Path(spec.origin).read_text()
    Net(path).compile()
    advice = f"{TF32_ADVICE} available. Consider something else."
    warnings.warn_explicit(advice, UserWarning, "file", 1, module)
    for text, where in (("other", module), (advice, "other")):
        with pytest.raises(UserWarning, match=text):
            warnings.warn_explicit(text, UserWarning, "file", 2, where)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_shares_of_a_batch_are_not_rounded_to_16_bits(precision: str, tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text("""
layer { name: "in" type: "Input" top: "x" top: "label" input_param {
  shape { dim: 5 dim: 300 } shape { dim: 5 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" inner_product_param {
  num_output: 300 weight_filler { type: "xavier" } } }
layer { name: "best" type: "ArgMax" bottom: "fc" top: "best" }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" }""")
    net, mode = Net(path, phase="test"), ComputeOptions(precision)
    mode.prepare(net, train=False)
    with torch.no_grad():
        net.params["fc"][0].copy_(torch.eye(300))
    best = torch.tensor([299, 257, 3, 259, 1])
    net.blobs["x"].data.copy_(torch.eye(300)[best])
    net.blobs["label"].data.copy_(torch.tensor([299, 257, 3, 0, 0]))
    with mode.forward(net.device):
        found = net.run(0).outputs
    assert found["accuracy"].item() == pytest.approx(0.6, rel=1e-6)
    assert found["best"].flatten().tolist() == best.tolist()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "fp8"}, "precision is 'fp8'; it must be one of fp32, tf32, bf16, fp16"),
        ({"precision": "fp64"}, "must be one of"),
        ({"cuda_graph": True}, "CUDA graphs need a GPU"),
    ],
)
def test_what_cannot_be_had(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(CaffeError, match=words):
        Solver(write_training(tmp_path / "run"), **options)


def test_a_state_that_a_graph_would_not_hand_on(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text("""
layer { name: "in" type: "Input" top: "x" top: "cont" input_param {
  shape { dim: 3 dim: 2 dim: 4 } shape { dim: 3 dim: 2 } } }
layer { name: "lstm" type: "LSTM" bottom: "x" bottom: "cont" top: "y" recurrent_param {
  num_output: 5 weight_filler { type: "xavier" } } }""")
    captured = CapturedPass(Net(path, phase="train"), nullcontext)
    with pytest.raises(NetError, match=r"layer 'lstm' \(LSTM\): it keeps its state from pass"):
        captured.run(0)


def test_debug_info_in_fp16(tmp_path: Path) -> None:
    with pytest.raises(SolverError, match="debug_info shows gradients that fp16 has scaled"):
        Solver(write_training(tmp_path / "run", "debug_info: true"), precision="fp16")


def test_the_verbs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_training(tmp_path / "run")
    assert main(["train", "--solver", str(path), "--precision", "bf16", "--channels-last"]) == 0
    net, weights = tmp_path / "run" / "net.prototxt", tmp_path / "run" / "snap_iter_12.caffemodel"
    capsys.readouterr()
    losses = []
    for precision in ("fp32", "bf16"):
        command = ["test", "--model", str(net), "--weights", str(weights), "--iterations", "3"]
        assert main([*command, f"--precision={precision}"]) == 0
        (line,) = [x for x in capsys.readouterr().err.splitlines() if "] Loss: " in x]
        losses.append(float(line.split("Loss: ")[1]))
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.03)
    command = ["time", "--model", str(net), "--iterations", "2", "--precision", "bf16"]
    assert main(command) == 0
    assert "Average Forward-Backward" in capsys.readouterr().err
    assert main(["train", "--solver", str(path), "--cuda-graph"]) == 1
    assert "CUDA graphs need a GPU" in capsys.readouterr().err


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("options", [{}, {"precision": "bf16"}, {"precision": "fp16"}])
@pytest.mark.parametrize("passes", [1, 2])
def test_a_cuda_graph(passes: int, options: dict[str, Any], tmp_path: Path) -> None:
    """Played back passes are those of the program: batches, noise, statistics and updates."""
    definition = SOLVER.replace("iter_size: 2", f"iter_size: {passes}")
    path = write_training(tmp_path / "run", solver=definition)
    losses, plain = trained(path, 9, device="cuda", cuda_graph=False, **options)
    played, solver = trained(path, 9, device="cuda", cuda_graph=True, **options)
    assert played == losses
    for ours, theirs in zip(solver.net.learnable, plain.net.learnable, strict=True):
        assert torch.equal(ours.tensor, theirs.tensor)


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def test_precisions_on_a_gpu(precision: str, tmp_path: Path) -> None:
    path = write_training(tmp_path / "run")
    whole, _ = trained(path, device="cuda")
    other, solver = trained(path, device="cuda", precision=precision)
    np.testing.assert_allclose(other, whole, rtol=0.03)
    form = torch.channels_last if precision != "tf32" else torch.contiguous_format
    assert solver.net.params["conv"][0].is_contiguous(memory_format=form)


@pytest.fixture
def with_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is by default, and again afterwards."""
    monkeypatch.setattr(torch.backends.cudnn, "enabled", True)


def fail_with_cudnn(solver: Solver) -> None:
    """The gradient of a convolution needs an algorithm that cuDNN does not have."""

    def fail(gradient: torch.Tensor) -> None:
        if torch.backends.cudnn.enabled:
            raise RuntimeError(NO_ENGINE)

    solver.net.params["conv"][1].register_hook(fail)


@pytest.mark.usefixtures("with_cudnn")
@pytest.mark.parametrize("passes", [1, 2])
def test_a_convolution_that_cudnn_cannot_repeat(passes: int, tmp_path: Path, lines: Lines) -> None:
    """The iteration begins again, and the training is that of torch's own kernels."""
    text = SOLVER.replace("iter_size: 2", f"iter_size: {passes}")
    path = write_training(tmp_path / "run", solver=text)
    _, other = trained(path, 4)
    solver = Solver(path)
    solver.step(2)
    fail_with_cudnn(solver)
    solver.step(2)
    for ours, theirs in zip(solver.net.learnable, other.net.learnable, strict=True):
        assert torch.equal(ours.tensor, theirs.tensor)
    assert lines.containing("cuDNN") == [
        "cuDNN has no repeatable algorithm for a convolution of the net, or not enough memory for "
        f"one: {NO_ENGINE}; torch's own kernels are used from here on, which are slower"
    ]


@pytest.mark.usefixtures("with_cudnn")
def test_the_remedy_for_a_pass_from_python(tmp_path: Path) -> None:
    net = Solver(write_training(tmp_path / "run")).net

    def fail(*arguments: Any) -> None:
        if torch.backends.cudnn.enabled:
            raise RuntimeError(NO_ENGINE)

    handle = net.layers[1].module.register_forward_hook(fail)  # type: ignore[union-attr]
    with pytest.raises(NoAlgorithm, match=r"set torch\.backends\.cudnn\.enabled to False"):
        net.forward()
    handle.remove()
    net.params["conv"][1].register_hook(fail)
    net.forward()
    with pytest.raises(NoAlgorithm, match="unable to find an engine to execute this computation;"):
        net.backward()
    torch.backends.cudnn.enabled = False
    net.forward()
    net.backward()

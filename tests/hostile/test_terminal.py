"""Names in files and of files command no terminal, and begin no line of what a verb prints."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.proto import schema
from caffecompat.proto.files import write_text
from caffecompat.reporting.glog import TEXT, GlogFormatter
from caffecompat.reporting.terminal import PrintableOutput
from caffecompat.weights import LayerWeights, Weights, save_weights

# Sets a terminal's title, begins a line, goes back to the start of one, reverses what follows.
MARK = "BEGUN"
NAME = f"e\x1b]0;x\x07\n{MARK}\r\u2028\u202e\x9b"
# The same in a prototxt.
WRITTEN = f"e\\x1b\\n{MARK}"
LOG_PLACE = "I0101 00:00:01.000000 1 solver.cpp:1]"


def definition() -> Any:
    net = schema.new("NetParameter")
    net.name = NAME
    data = net.layer.add(name=f"{NAME}data", type="Input", top=[NAME, f"{NAME}label"])
    data.input_param.shape.add(dim=[2, 3, 5, 7])
    data.input_param.shape.add(dim=[2])
    convolution = net.layer.add(
        name=f"{NAME}conv", type="Convolution", bottom=[NAME], top=[f"{NAME}conv"]
    )
    convolution.convolution_param.num_output = 4
    convolution.convolution_param.kernel_size.append(3)
    convolution.convolution_param.weight_filler.type = "xavier"
    convolution.param.add(name=f"{NAME}weight")
    product = net.layer.add(
        name=f"{NAME}fc", type="InnerProduct", bottom=[f"{NAME}conv"], top=[f"{NAME}fc"]
    )
    product.inner_product_param.num_output = 6
    product.inner_product_param.weight_filler.type = "xavier"
    bottoms = [f"{NAME}fc", f"{NAME}label"]
    net.layer.add(name=f"{NAME}loss", type="SoftmaxWithLoss", bottom=bottoms, top=[f"{NAME}loss"])
    return net


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nets, weights, a solver and a log, all with such names."""
    folder = tmp_path_factory.mktemp("names")
    write_text(definition(), folder / "net.prototxt")
    net = Net(str(folder / "net.prototxt"))
    save_weights(net.to_weights(), folder / "net.caffemodel")
    other = LayerWeights(f"{NAME}other", "InnerProduct", [np.ones((2, 3), np.float32)])
    save_weights(Weights([other], NAME), folder / "other.caffemodel")
    old = f'name: "{WRITTEN}" input: "{WRITTEN}" input_dim: 1 input_dim: 3 input_dim: 4 '
    old += f'input_dim: 4 layers {{ name: "{WRITTEN}" type: RELU bottom: "{WRITTEN}" top: "x" }}'
    (folder / "v1.prototxt").write_text(old)
    layer = f'name: "{WRITTEN}" type: "{WRITTEN}" det_fg_threshold: 0.5'
    (folder / "v0.prototxt").write_text(f'layers {{ layer {{ {layer} }} bottom: "{WRITTEN}" }}')
    (folder / "solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 2 display: 1 '
        f'test_iter: 1 test_interval: 1 snapshot_prefix: "{WRITTEN}" debug_info: true'
    )
    (folder / "old_solver.prototxt").write_text(
        f'train_net: "{WRITTEN}" solver_type: ADAM base_lr: 0.1 type: "{WRITTEN}"'
    )
    output = NAME.replace("\n", "").replace("\r", "").replace("\u2028", "")
    rows = f"{LOG_PLACE} Solving x\n{LOG_PLACE} Iteration 1, Train net output #0: {output} = 1\n"
    (folder / "x.log").write_text(rows)
    (folder / f"{NAME}.log").write_text(rows.replace("output #0", "no output"))
    (folder / f"{NAME}.caffemodel").write_bytes((folder / "other.caffemodel").read_bytes())
    return folder


MODEL = ["--model", "net.prototxt"]
ONE_PASS = ["--iterations", "1"]
COMMANDS = [
    ["summary", "net.prototxt"],
    ["graph", "net.prototxt"],
    ["graph", "net.prototxt", "--code"],
    ["inspect", "net.prototxt"],
    ["inspect", "net.caffemodel", "--values"],
    ["inspect", "other.caffemodel", *MODEL],
    ["inspect", f"{NAME}.caffemodel"],
    ["inspect", "solver.prototxt"],
    ["summarize", "net.prototxt"],
    ["draw", "net.prototxt", "a.html"],
    ["draw-net", "net.prototxt", "a.dot"],
    ["time", *MODEL, *ONE_PASS],
    ["deploy", "net.prototxt", "deploy.prototxt"],
    ["diff", "net.prototxt", "net.caffemodel"],
    ["diff", "net.caffemodel", "other.caffemodel"],
    ["upgrade-net", "v1.prototxt", "new.prototxt"],
    ["upgrade-net", "v0.prototxt", "new.prototxt"],
    ["upgrade-solver", "old_solver.prototxt", "new.prototxt"],
    ["summary", "v0.prototxt"],
    ["convert", "net.caffemodel", "net.pt"],
    ["convert", "other.caffemodel", "other.onnx", *MODEL],
    ["test", *MODEL, "--weights", "net.caffemodel", *ONE_PASS],
    ["test", *MODEL, "--weights", "other.caffemodel", *ONE_PASS],
    ["verify", "net.caffemodel", "other.caffemodel", *MODEL],
    ["train", "--solver", "solver.prototxt"],
    ["train", "--solver", "solver.prototxt", "--weights", "other.caffemodel"],
    ["train", "--solver", "old_solver.prototxt"],
    ["doctor", ".", "--fix"],
    ["doctor", ".", "--json"],
    ["parse-log", "x.log", ".", "--verbose"],
    ["parse-log", f"{NAME}.log", "."],
    ["plot-log", f"{NAME}.log", "-o", f"{NAME}.png"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:2]))
def test_no_verb_prints_a_command(
    words: list[str],
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(files)
    assert main(words) in (0, 1)
    printed = capfd.readouterr()
    lines = (printed.out + printed.err).split("\n")
    assert len(lines) > 1
    for line in lines:
        assert line.replace("\t", "").isprintable(), line
        assert not line.startswith(MARK), line


def test_only_the_styles_of_this_package_pass() -> None:
    stream = io.StringIO()
    output = PrintableOutput(stream)
    output.write("\x1b[1mname\x1b[0m\tx\n\x1b[31;5mred\x1b[2J\x1b]0;t\x07\x9b1m\r")
    assert stream.getvalue() == (
        "\x1b[1mname\x1b[0m\tx\n\\x1b[31;5mred\\x1b[2J\\x1b]0;t\\x07\\x9b1m\\r"
    )


@pytest.mark.parametrize("extra", [{}, TEXT])
def test_a_name_is_no_line_of_a_log(extra: dict[str, Any]) -> None:
    """Texts of messages, which have no line ends in their strings, stand as they are."""
    record = logging.makeLogRecord({"msg": f"a\n{LOG_PLACE} Iteration 5", **extra})
    lines = GlogFormatter().format(record).split("\n")
    assert lines[1] == ("" if extra else "    ") + f"{LOG_PLACE} Iteration 5"


def test_a_path_of_a_net_adds_no_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What has no prefix is text to copy, which only this package writes."""
    monkeypatch.chdir(tmp_path)
    path = Path("net.prototxt")
    data = 'type: "Data" top: "data" data_param { source: "lmdb\\n\\nrun: rm -r x" batch_size: 1 }'
    path.write_text(f'layer {{ name: "data" {data} }}')
    assert main(["summary", str(path)]) == 1
    error = capsys.readouterr().err
    assert "run: rm -r x" in error
    assert all(line.startswith("caffecompat: error: ") for line in error.splitlines())
    path.write_text('layer { name: "x\\n\\nrun: rm -r x" type: "T\\n\\nrun: rm -r x" top: "x" }')
    assert main(["summary", str(path)]) == 1
    sentences, blank, code = capsys.readouterr().err.partition("\n\n")
    assert blank
    assert all(line.startswith("caffecompat: error: ") for line in sentences.splitlines())
    assert code.startswith("import torch\n")
    assert not any(line.startswith("run:") for line in code.splitlines())


def test_a_name_of_a_million_characters_is_no_line_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(f'layer {{ name: "x" type: "ReLU" bottom: "{"a" * 1_000_000}" top: "x" }}')
    assert main(["summary", str(path)]) == 1
    error = capsys.readouterr().err
    assert "unknown bottom blob 'aaa" in error
    assert len(error) < 21_000

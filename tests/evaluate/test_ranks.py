"""An evaluation that is killed and goes on under torchrun writes the file of an undisturbed one."""

from __future__ import annotations

import os
from pathlib import Path

from caffecompat.cli.main import main
from tests.evaluate.small import NET, small_model, write_images
from tests.programs import run_program

# Three parts, of which the killed run finishes the first.
IMAGES = 130
KILLED = """
import os, signal, sys
from caffecompat.cli.main import main
from caffecompat.evaluate.unfinished import UnfinishedEvaluation

save = UnfinishedEvaluation.save

def save_and_die(self, part, found):
    save(self, part, found)
    os.kill(os.getpid(), signal.SIGKILL)

UnfinishedEvaluation.save = save_and_die
main(sys.argv[1:])
"""
# Ranks as torchrun starts them, but forked, so that they find torch imported.
LAUNCHED = """
import sys
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from caffecompat.cli.main import main

config = LaunchConfig(
    min_nodes=1, max_nodes=1, nproc_per_node=2, run_id="evaluation", rdzv_backend="c10d",
    rdzv_endpoint="localhost:0", max_restarts=0, monitor_interval=0.05, start_method="fork",
)
codes = elastic_launch(config, main)(sys.argv[1:])
sys.exit(max(codes.values()))
"""


def test_killed_and_continued_by_two_ranks(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", IMAGES)
    (tmp_path / "deploy.prototxt").write_text(NET)
    small_model().net().save(tmp_path / "net.caffemodel")
    command = [
        *("evaluate", "--weights", str(tmp_path / "net.caffemodel"), "--data", images),
        *("--mean", "104,117,123", "--input-scale", "0.02", "--protocol", "both"),
        *("--scales", "15,17"),
    ]
    assert main([*command, "--output", str(tmp_path / "whole.npz")]) == 0
    path = tmp_path / "parts.npz"
    output = ["--output", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = run_program(["-c", KILLED, *command, *output], environment=environment)
    assert killed.returncode == -9, killed.stderr
    kept = sorted(file.name for file in Path(f"{path}.unfinished").iterdir())
    assert kept == ["part-000000.npz", "settings.json"]
    done = run_program(["-c", LAUNCHED, *command, *output], environment=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("130 images; dense and multicrop at scale 15, 17") == 1
    assert path.read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert not Path(f"{path}.unfinished").exists()

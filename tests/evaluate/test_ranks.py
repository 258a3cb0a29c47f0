"""An evaluation that is killed and goes on under torchrun writes the file of an undisturbed one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from caffecompat.cli.main import main
from tests.evaluate.small import NET, small_model, write_images
from tests.places import REPOSITORY

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
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    killed = [sys.executable, "-c", KILLED, *command, *output]
    assert subprocess.run(killed, env=environment, check=False).returncode == -9
    kept = sorted(file.name for file in Path(f"{path}.unfinished").iterdir())
    assert kept == ["part-000000.npz", "settings.json"]
    ranks = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "caffecompat", *command, *output),
    ]
    done = subprocess.run(ranks, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.count("130 images; dense and multicrop at scale 15, 17") == 1
    assert path.read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert not Path(f"{path}.unfinished").exists()

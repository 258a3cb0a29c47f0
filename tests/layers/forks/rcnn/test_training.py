"""A small Faster R-CNN is trained end to end, and finds what it has not seen."""

from __future__ import annotations

from pathlib import Path

from caffecompat import Net, Solver
from tests.layers.forks.rcnn.faster_rcnn import (
    deploy_net,
    mean_average_precision,
    train_net,
    write_images,
)


def test_mean_average_precision_of_a_trained_net(tmp_path: Path) -> None:
    train, test = (write_images(tmp_path, name, n, n) for name, n in (("train", 120), ("test", 25)))
    (tmp_path / "train.prototxt").write_text(train_net(train))
    (tmp_path / "deploy.prototxt").write_text(deploy_net())
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/train.prototxt" type: "Adam" base_lr: 0.003 momentum: 0.9 '
        'momentum2: 0.999 lr_policy: "poly" power: 1 max_iter: 400 '
        f'snapshot_prefix: "{tmp_path}/net" random_seed: 3 solver_mode: CPU'
    )
    solver = Solver(tmp_path / "solver.prototxt")
    deploy = Net(tmp_path / "deploy.prototxt", phase="test")
    deploy.load_state_dict(solver.net.state_dict(), strict=False)
    assert mean_average_precision(deploy, test) < 0.3
    solver.step(400)
    deploy.load_state_dict(solver.net.state_dict(), strict=False)
    assert mean_average_precision(deploy, test) > 0.9

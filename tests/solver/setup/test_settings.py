"""Solver definitions that cannot be what their author means."""

from __future__ import annotations

import os

import pytest

from caffecompat.errors import SolverError
from caffecompat.proto import schema
from caffecompat.proto.text.parser import parse_text
from caffecompat.solver.setup.settings import read_settings

GOOD = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 5 '


def settings(text: str) -> object:
    return read_settings(parse_text(GOOD + text, "SolverParameter")[0])


def test_good() -> None:
    assert settings("") is not None


@pytest.mark.parametrize("field", ["larc: true", "stagelr: 0.1", "stepearly: 5"])
def test_fields_of_other_versions_are_refused(field: str) -> None:
    name = field.partition(":")[0]
    with pytest.raises(SolverError, match=rf"solver: {name} is from .*; it is not supported; remo"):
        settings(field)


def test_fields_of_other_versions_are_noted_leniently() -> None:
    message = parse_text(GOOD + "larc_eta: 0.1", "SolverParameter")[0]
    read = read_settings(message, lenient=True)
    assert any("larc_eta" in note and "ignored" in note for note in read.notes)


def test_fields_without_effect_are_accepted_in_silence() -> None:
    message = parse_text(GOOD + "richness: 200 show_per_class_result: true", "SolverParameter")[0]
    assert read_settings(message).notes == []


def test_a_list_of_gpus() -> None:
    """Forks for several processes list the GPU of each; a definition for one names the first."""
    message = parse_text(GOOD + "device_id: [2, 0, 1]", "SolverParameter")[0]
    read = read_settings(message)
    assert read.message.device_id == 2
    assert read.notes == [
        "device_id lists 3 GPUs, of which the first counts; --gpu 2,0,1 trains on all of them"
    ]
    assert list(message.device_id_list) == [2, 0, 1]


def test_several_at_once() -> None:
    with pytest.raises(SolverError, match=r"(?s)iter_size is 0.*larc is from"):
        settings("iter_size: 0 larc: true")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('lr_policy: "fixed" warmup_iter: -1', "warmup_iter is -1, it must not be negative"),
        ('lr_policy: "fixed" warmup_iter: 2 rampup_interval: 2', "exclude each other"),
        ('lr_policy: "fixed" min_lr: -0.5', "min_lr is -0.5, it must not be negative"),
        ('lr_policy: "poly" min_lr: 0.5', "min_lr is 0.5, above base_lr 0.1"),
        ('lr_policy: "multifixed"', "stagelr is missing"),
        (
            'lr_policy: "multifixed" stagelr: 1 stageiter: 2 stageiter: 3',
            "stagelr has 1 values and stageiter 2",
        ),
    ],
)
def test_rates_of_forks_that_are_impossible(text: str, sentence: str) -> None:
    with pytest.raises(SolverError, match=sentence):
        read_settings(parse_text(f'net: "n" base_lr: 0.1 {text}', "SolverParameter")[0])


def test_a_negative_base_lr_is_not_below_a_min_lr_that_nobody_gave() -> None:
    text = 'net: "n" base_lr: -0.5 lr_policy: "poly" max_iter: 5'
    assert read_settings(parse_text(text, "SolverParameter")[0]).message.base_lr == -0.5


def test_plateau_that_watches_tests_without_passes() -> None:
    text = 'lr_policy: "plateau" gamma: 0.1 plateau_winsize: 4 plateau_metric: "acc" '
    with pytest.raises(SolverError, match="test_iter is 0, but plateau_metric watches"):
        read_settings(
            parse_text(
                'net: "net.prototxt" base_lr: 1 ' + text + "test_iter: 0", "SolverParameter"
            )[0]
        )


def test_step_without_gamma_is_remarked() -> None:
    text = 'net: "n" base_lr: 1 max_iter: 3 lr_policy: "step" stepsize: 2'
    read = read_settings(parse_text(text, "SolverParameter")[0])
    assert any("gamma is not given" in note for note in read.notes)


@pytest.mark.skipif(os.sep != "/", reason="backslashes are separators there")
def test_a_prefix_of_windows_is_remarked() -> None:
    """Its snapshots are files with backslashes in their names, hidden ones after a point."""
    text = 'net: "n" base_lr: 1 max_iter: 3 lr_policy: "fixed" snapshot_prefix: '
    read = read_settings(parse_text(text + r"'.\\snaps\\a'", "SolverParameter")[0])
    assert any("has backslashes" in note and "write / for folders" in note for note in read.notes)
    read = read_settings(parse_text(text + "'./snaps/a'", "SolverParameter")[0])
    assert read.notes == []


def test_fields_inside_a_net_are_left_to_its_layers() -> None:
    net = 'net_param { layer { name: "p" type: "Pooling" pooling_param { ceil_mode: true } } }'
    read = read_settings(parse_text(GOOD + net, "SolverParameter")[0])
    assert read.message.net_param.layer[0].pooling_param.ceil_mode
    assert read.notes == []


@pytest.mark.parametrize("source", [None, 3, schema.new("NetParameter")])
def test_what_is_no_solver(source: object) -> None:
    with pytest.raises(SolverError, match="made from the path of a prototxt or from a SolverParam"):
        read_settings(source)

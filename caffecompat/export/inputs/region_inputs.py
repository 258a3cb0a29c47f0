"""Inputs that are no images: regions, facts about an image, flags of sequences."""

from __future__ import annotations

from caffecompat.graph import Version
from caffecompat.layers._recurrent import Recurrent
from caffecompat.layers.arg_max import ArgMax
from caffecompat.layers.flatten import Flatten
from caffecompat.layers.forks.rcnn.pooling.psroi_pooling import PSROIPooling
from caffecompat.layers.forks.rcnn.pooling.roi_align import ROIAlign
from caffecompat.layers.forks.rcnn.pooling.roi_pooling import ROIPooling
from caffecompat.layers.forks.rcnn.proposals.proposal import Proposal
from caffecompat.layers.forks.rcnn.proposals.proposal_layer import ProposalLayer
from caffecompat.layers.forks.rcnn.proposals.proposal_synopsys import Proposal as ProposalOfSynopsys
from caffecompat.layers.forks.rcnn.proposals.text_proposal_layer import TextProposalLayer
from caffecompat.layers.forks.sequence._lstm import FlatLSTM
from caffecompat.layers.forks.sequence.ctc_greedy_decoder import CTCGreedyDecoder
from caffecompat.layers.forks.ssd.detections.detection_output import DetectionOutput
from caffecompat.layers.forks.yolo.yolo_detection_output import YoloDetectionOutput
from caffecompat.layers.forks.yolo.yolov3_detection_output import Yolov3DetectionOutput
from caffecompat.layers.lstm_unit import LSTMUnit
from caffecompat.layers.reshape import Reshape
from caffecompat.net import Net
from caffecompat.net.built_layer import BuiltLayer

# Layers whose tops have as many rows as the values make, and the bottom with facts about the image.
PROPOSALS = (Proposal, ProposalLayer, ProposalOfSynopsys)
FACTS_BOTTOM = 2
# Layers whose top (1, 1, K, 7) has as many rows as the values make.
DETECTIONS = (DetectionOutput, YoloDetectionOutput, Yolov3DetectionOutput)
# Layers whose tops are places of largest values.
RANKINGS = (ArgMax, CTCGreedyDecoder)
# Layers that pool regions of maps, and the bottom with the regions.
POOLINGS = (ROIPooling, PSROIPooling, ROIAlign)
REGIONS_BOTTOM = 1
# The bottoms of recurrent layers and decoders with flags.
FLAGS_BOTTOM, FLAGS_BOTTOM_OF_UNIT = 1, 2
# Layers whose tops are their bottoms in another shape.
RESHAPING = (Reshape, Flatten)


def axis_of_rows(built: BuiltLayer) -> int | None:
    """The axis of a layer's tops whose extent depends on values; None if there is none."""
    if isinstance(built.layer, DETECTIONS):
        return 2
    return 0 if isinstance(built.layer, PROPOSALS) else None


def loose_values(net: Net) -> frozenset[Version]:
    """The values whose rows depend on values, or that are ranks, and those made from them.

    Where scores are equal but for rounding, rows change places, or others are chosen.
    """
    loose: set[Version] = set()
    for built in net.layers:
        chooses = axis_of_rows(built) is not None or isinstance(built.layer, RANKINGS)
        if chooses or loose.intersection(built.bottoms):
            loose.update(built.tops)
    return frozenset(loose)


def ranks(net: Net) -> frozenset[str]:
    """The blobs that say which one of several values is the largest."""
    return frozenset(
        top.blob for built in net.layers if isinstance(built.layer, RANKINGS) for top in built.tops
    )


def region_inputs(net: Net) -> frozenset[str]:
    """The inputs (R, 5) with rows [image, x1, y1, x2, y2], of any number of rows."""
    return _read_by(net, POOLINGS, REGIONS_BOTTOM)


def fact_inputs(net: Net) -> frozenset[str]:
    """The inputs (1, 3) with height, width and scale of the image."""
    return _read_by(net, (*PROPOSALS, TextProposalLayer), FACTS_BOTTOM)


def flag_inputs(net: Net) -> frozenset[str]:
    """The inputs of 0 where a sequence begins and 1 where it goes on."""
    flags = _read_by(net, (Recurrent, FlatLSTM, CTCGreedyDecoder), FLAGS_BOTTOM)
    return flags | _read_by(net, (LSTMUnit,), FLAGS_BOTTOM_OF_UNIT)


def _read_by(net: Net, kinds: tuple[type, ...], position: int) -> frozenset[str]:
    """The inputs that layers of some types read as the bottom at a position, also reshaped."""
    same: dict[Version, Version] = {}
    read = set()
    for built in net.layers:
        if built.node.automatic or isinstance(built.layer, RESHAPING):
            same.update(dict.fromkeys(built.tops, same.get(built.bottoms[0], built.bottoms[0])))
        elif isinstance(built.layer, kinds) and len(built.bottoms) > position:
            bottom = built.bottoms[position]
            read.add(same.get(bottom, bottom))
    return frozenset(top.blob for top in net.program().feeds if top in read)

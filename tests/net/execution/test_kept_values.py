"""Values of a pass that ran elsewhere, as in a CUDA graph, and the release of a pass."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from caffecompat.errors import BlobError
from tests.net.nets import CLASSIFIER, net


def test_a_pass_that_ran_elsewhere_shows_in_the_blobs() -> None:
    built = net(CLASSIFIER)
    built.forward()
    program = built.program()
    feeds = [torch.ones_like(feed) for feed in built.feeds(0)]
    with torch.no_grad():
        values, loss = program(feeds)
    loss = torch.zeros(()) if loss is None else loss
    built.keep_values({**dict(zip(program.feeds, feeds, strict=True)), **values}, loss)
    assert torch.equal(built.value_of(program.feeds[0]), feeds[0])
    for version, value in values.items():
        assert torch.equal(built.value_of(version), value)
    hidden = next(b.tops[0] for b in built.layers if b.tops and b.tops[0] not in values)
    if hidden not in program.feeds:
        with pytest.raises(BlobError, match="was not kept"):
            built.value_of(hidden)


def test_released_values_free_their_graph() -> None:
    built = net(CLASSIFIER)
    built.requires_grad_(True)
    built.forward()
    output = built.value_of(next(reversed(built.program(observed=True).versions)))
    node = weakref.ref(output)
    del output
    built.release_values()
    gc.collect()
    assert node() is None
    assert float(built.loss) == 0

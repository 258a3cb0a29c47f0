"""The HTML report of an evaluation in a headless Chromium."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from caffecompat.evaluate.classification.error_rates import confusion_matrix, top_k_error
from caffecompat.evaluate.classification.posteriors import Posteriors
from caffecompat.evaluate.classification.report import ReportContent, write_report
from caffecompat.evaluate.images.labelled_images import open_images
from tests.draw.browser import chromium, program
from tests.evaluate.small import CLASSES, write_images

HOSTILE = '<script>window.broken="name"</script><img src="https://example.org/x.png">'


@pytest.mark.skipif(program() is None, reason="needs a Chromium to open pages with")
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    images = open_images(write_images(tmp_path / "images", 9))
    values = np.random.default_rng(3).dirichlet(np.ones(CLASSES), 9).astype(np.float32)
    labels = np.array([images.read(i).label for i in range(9)], np.int64)
    values[[0, 4]] = np.eye(CLASSES)[labels[[0, 4]]]
    names = tuple(images.read(i).name for i in range(9))
    found = Posteriors(names, np.arange(9), labels, values)
    wrong = int((values.argmax(1) != labels).sum())
    assert 0 < wrong < 9
    content = ReportContent(HOSTILE, [f"fact {HOSTILE}"], [HOSTILE, *"abcde"])
    page = write_report(str(tmp_path / "report"), content, found, images)
    with chromium(tmp_path / "profile") as browser:
        browser.open(page)
        assert browser.errors == []
        outside = [address for address in browser.requests if not address.startswith("data:image/")]
        assert outside == [page.as_uri()]
        assert browser.run("window.broken === undefined")
        assert browser.run("document.querySelector('h1').textContent") == HOSTILE
        loaded = "[...document.images].map(image => image.complete && image.naturalWidth > 0)"
        assert browser.run(loaded) == [True] * (1 + wrong)
        text = str(browser.run("document.body.innerText"))
        assert browser.run("document.querySelectorAll('figure').length") == wrong
        screenshot = tmp_path / "page.png"
        browser.screenshot(screenshot)
    assert screenshot.stat().st_size > 5000
    for k in (1, 5):
        assert f"top-{k} error\t{100 * top_k_error(values, labels, k):.2f} %" in text
    matrix = confusion_matrix(values, labels)
    np.fill_diagonal(matrix, 0)
    rows = re.findall(r"^(\d).*\t(\d).*\t(\d+)$", text.partition("Confusion matrix")[2], re.M)
    assert {(int(a), int(b)): int(n) for a, b, n in rows} == {
        (int(a), int(b)): int(matrix[a, b]) for a, b in np.argwhere(matrix)
    }

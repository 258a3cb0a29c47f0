"""The HTML page in a headless Chromium: what it shows, keys and mouse, hostile names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.draw.arrays.array_views import activation_views, merged, parameter_views
from caffecompat.draw.html_page import html_page, safe_json
from caffecompat.weights import LayerWeights, Weights
from tests.draw.browser import Browser, chromium, program
from tests.draw.nets import (
    HOSTILE,
    INPUT,
    convolution,
    drawn,
    join,
    product,
    quoted,
    relu,
    residual_net,
)

needs_browser = pytest.mark.skipif(program() is None, reason="needs a Chromium to open pages with")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def opened(browser: Browser, folder: Path, page: bytes) -> Browser:
    """The browser with a page, which has reported no errors and read nothing but itself."""
    path = folder / "page.html"
    path.write_bytes(page)
    browser.requests.clear()
    browser.errors.clear()
    browser.open(path)
    assert browser.errors == []
    assert [r for r in browser.requests if not r.startswith("data:image/")] == [path.as_uri()]
    return browser


def text_of(browser: Browser, selector: str) -> str:
    found = browser.run(f"document.querySelector({selector!r}).textContent")
    assert isinstance(found, str)
    return found


def hostile_net() -> str:
    text, bottom = INPUT, "data"
    for name in HOSTILE:
        text += convolution(quoted(name), bottom) + relu(quoted(name))
        bottom = quoted(name)
    return text + join(quoted(HOSTILE[0]), "unknown", "data")


class Elements(HTMLParser):
    """The elements of a page, with what is inside script elements."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        for name, value in attrs:
            assert name not in ("src", "href"), value

    def handle_data(self, data: str) -> None:
        if self.names and self.names[-1] == "script":
            self.scripts.append(data)


def test_names_do_not_leave_their_element(tmp_path: Path) -> None:
    plain = Elements()
    plain.feed(html_page(drawn(tmp_path, INPUT)).decode())
    page = Elements()
    page.feed(html_page(drawn(tmp_path, hostile_net())).decode())
    assert page.names == plain.names
    assert not re.search("[<>&\u2028]", page.scripts[0])


def test_json_is_escaped() -> None:
    assert safe_json({"a": "</script>&"}) == '{"a":"\\u003c/script\\u003e\\u0026"}'
    with pytest.raises(ValueError, match="Out of range"):
        safe_json(float("nan"))


def test_the_policy_allows_the_program_of_the_page_only(tmp_path: Path) -> None:
    text = html_page(drawn(tmp_path, INPUT)).decode()
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert "default-src &#x27;none&#x27;" in policy[1]
    assert "unsafe-eval" not in text
    assert "innerHTML" not in text
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text


@needs_browser
def test_hostile_names_are_text(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, html_page(drawn(tmp_path, hostile_net())))
    names = browser.run("netPage.model.layers.map((layer) => layer.name)")
    assert [name for name in names if not name.endswith("_relu")][1:-1] == HOSTILE
    for position in range(len(names)):
        browser.run(f"netPage.selectLayer({position})")
        assert text_of(browser, "#panel h2") == names[position]
    assert browser.run("window.broken") is None
    assert browser.run("document.querySelectorAll('#panel img').length") == 0
    assert browser.errors == []


@needs_browser
def test_a_click_shows_a_layer(browser: Browser, tmp_path: Path) -> None:
    diagram = drawn(tmp_path, INPUT + convolution("conv", "data") + relu("conv"))
    opened(browser, tmp_path, html_page(diagram))
    assert text_of(browser, "#title") == "small"
    assert "112 parameters" in text_of(browser, "#subtitle")
    for fraction, name in ((0.2, "conv"), (0.9, "conv_relu")):
        x, y = browser.run(
            "(() => { const item = netPage.placeOf('b1');"
            "const area = netPage.canvas.getBoundingClientRect();"
            f"const at = netPage.view.toScreen(item.x + 30, item.y + item.h * {fraction});"
            "return [area.x + at.x, area.y + at.y]; })()"
        )
        browser.click(x, y)
        assert text_of(browser, "#panel h2") == name
    browser.run("netPage.selectLayer(1)")
    shown = text_of(browser, "#panel")
    for part in ("Convolution", "2 × 4 × 9 × 7", "4 × 3 × 3 × 3", "13,608", "num_output: 4"):
        assert part in shown, part
    assert "net.prototxt:5" in shown


@needs_browser
def test_repeated_blocks_open_and_close(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, html_page(drawn(tmp_path, residual_net(6))))
    count = "netPage.layout.items.length"
    # data, conv1, 6 units of 3 boxes, fc, prob
    assert browser.run(count) == 22
    browser.run("document.getElementById('collapse').click()")
    assert browser.run(count) == 5
    assert browser.run("document.getElementById('collapse').getAttribute('aria-pressed')") == "true"
    group = browser.run("netPage.model.groups.findIndex((g) => g.kind === 'repetition')")
    browser.run(f"netPage.toggle({group})")
    assert browser.run(count) == 4 + 6
    assert "6 × res2b0 … res2b5" in text_of(browser, "#panel h2")
    # A search goes into what is closed.
    browser.run("netPage.selectLayer(netPage.model.layers.findIndex(l => l.name === 'res2b3'))")
    assert browser.run(count) == 4 + 5 + 3
    browser.run("document.getElementById('expand').click()")
    assert browser.run(count) == 22


@needs_browser
def test_nothing_overlaps(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, html_page(drawn(tmp_path, residual_net(5))))
    overlaps = """
      (() => { const items = netPage.layout.items; const found = [];
        items.forEach((a, i) => items.slice(i + 1).forEach((b) => {
          if (a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h) {
            found.push([a.key, b.key]); } }));
        netPage.layout.lines.forEach((l) => { if (l.y2 < l.y1 - 0.01) found.push(l.origin); });
        return found; })()"""
    for button in ("expand", "collapse"):
        browser.run(f"document.getElementById({button!r}).click()")
        assert browser.run(overlaps) == []


@needs_browser
def test_keys_reach_every_layer(browser: Browser, tmp_path: Path) -> None:
    text = INPUT + convolution("one", "data") + relu("one") + product("two", "one")
    opened(browser, tmp_path, html_page(drawn(tmp_path, text)))
    browser.run("document.getElementById('drawing').focus()")
    seen = []
    for _ in range(4):
        browser.press("ArrowDown")
        browser.settle()
        seen.append(text_of(browser, "#panel h2"))
    assert seen == ["data", "one", "one_relu", "two"]
    assert text_of(browser, "#announcement") == "two, InnerProduct"
    browser.press("ArrowUp")
    assert text_of(browser, "#panel h2") == "one_relu"
    browser.press("Escape")
    assert text_of(browser, "#panel h2") == "small"


@needs_browser
def test_search(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, html_page(drawn(tmp_path, residual_net(3))))
    browser.run("document.getElementById('drawing').focus()")
    browser.press("/", "/")
    assert browser.run("document.activeElement.id") == "search"
    browser.type("eltwise b2")
    browser.settle()
    entries = "[...document.querySelectorAll('#results .name')].map((e) => e.textContent)"
    assert browser.run(entries) == ["res2b2"]
    assert browser.run("netPage.state.found.size") == 1
    browser.press("Enter")
    assert text_of(browser, "#panel h2") == "res2b2"
    browser.run("netPage.search.input.value = 'nosuch'; netPage.search.update()")
    assert "no layer has this" in text_of(browser, "#results")


@needs_browser
def test_zoom_and_pan(browser: Browser, tmp_path: Path) -> None:
    opened(browser, tmp_path, html_page(drawn(tmp_path, residual_net(40))))
    # So many boxes begin with their repetition closed.
    assert browser.run("netPage.layout.items.length") == 5
    browser.run("document.getElementById('expand').click()")
    browser.run("netPage.selectLayer(60)")
    browser.run("netPage.view.zoomAt(1 / netPage.view.scale)")
    before = browser.run("[netPage.view.x, netPage.view.y]")
    browser.mouse("mousePressed", 300, 400)
    browser.mouse("mouseMoved", 300, 360)
    browser.mouse("mouseMoved", 250, 300)
    browser.mouse("mouseReleased", 250, 300)
    after = browser.run("[netPage.view.x, netPage.view.y]")
    assert np.allclose(np.subtract(after, before), [50, 100])
    browser.settle()
    # What is outside of the window is not drawn.
    assert 0 < browser.run("netPage.drawn") < 20
    browser.run("document.getElementById('zoom-in').click()")
    assert browser.run("netPage.view.scale") == pytest.approx(1.3)
    browser.run("document.getElementById('fit').click()")
    browser.settle()
    assert browser.run("netPage.drawn") == browser.run("netPage.layout.items.length") == 124


@needs_browser
def test_a_layer_that_cannot_be_built_is_marked(browser: Browser, tmp_path: Path) -> None:
    text = INPUT + join("Mystery", "odd", "data") + product("fc", "odd")
    opened(browser, tmp_path, html_page(drawn(tmp_path, text)))
    assert "1 layer with a problem" in text_of(browser, "#panel")
    browser.run("document.querySelector('#panel .problem button').click()")
    assert "unknown layer type 'Mystery'" in text_of(browser, "#panel .problem")
    browser.run("netPage.selectLayer(2)")
    assert "unknown" in text_of(browser, "#panel")


@needs_browser
def test_filters_and_activations(browser: Browser, tmp_path: Path) -> None:
    text = residual_net(1)
    diagram = drawn(tmp_path, text)
    net = Net(str(tmp_path / "net.prototxt"))
    net.forward(data=np.ones((2, 3, 9, 7), np.float32))
    weights = net.to_weights()
    views = merged(
        parameter_views(diagram, weights, lambda name: None),
        activation_views(diagram, net, ["a", "b", "c", "<d>", "e"], lambda name: None),
    )
    opened(browser, tmp_path, html_page(diagram, views, {"weights": "w.caffemodel"}))
    assert "w.caffemodel" in text_of(browser, "#panel")
    browser.run("netPage.selectLayer(1)")
    images = "[...document.querySelectorAll('#panel img')]"
    browser.settle()
    assert browser.run(f"{images}.length") == 2
    assert browser.run(f"{images}.every((image) => image.complete && image.naturalWidth)") is True
    bars = browser.run(
        "[...document.querySelectorAll('#panel .array:last-of-type .histogram rect')]"
        ".map((bar) => parseInt(bar.textContent))"
    )
    assert sum(bars) == 4  # the bias
    browser.run(f"netPage.selectLayer({len(diagram.layers) - 1})")
    assert "<d>" in text_of(browser, "#panel")
    assert browser.errors == []


@needs_browser
def test_the_preferred_colours_are_used(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_bytes(html_page(drawn(tmp_path, INPUT)))
    with chromium(tmp_path / "profile", scheme="dark") as browser:
        browser.open(tmp_path / "page.html")
        assert browser.run("netPage.painter.colours.ground") == "#14181e"
        browser.run("document.getElementById('theme').click()")
        assert browser.run("netPage.painter.colours.ground") == "#f6f7f9"


def test_weights_of_another_shape_are_said(tmp_path: Path) -> None:
    diagram = drawn(tmp_path, INPUT + product("fc", "data"))
    stored = LayerWeights("fc", blobs=[np.ones((5, 7), np.float32), np.zeros(5, np.float32)])
    views = parameter_views(diagram, Weights([stored]), lambda name: None)
    weight, bias = views[1]
    assert weight.note == "the file has 5x7, the net needs 5x189"
    assert bias.note == ""

/* The panel beside the drawing: the net, a group, or a layer with its arrays. */

class Panel {
  /* go(layer) selects a layer; toggle(group) opens or closes a group. */
  constructor(model, root, go, toggle) {
    this.model = model;
    this.root = root;
    this.go = go;
    this.toggle = toggle;
  }

  fill(...children) {
    this.root.replaceChildren(...children.flat().filter(Boolean));
    this.root.scrollTop = 0;
  }

  /* The net */

  showNet() {
    const { model } = this;
    const facts = [
      ["file", model.source],
      ["phase", model.phase === "ALL" ? "all phases" : model.phase],
      ["layers", fullNumber(model.layers.length)],
      ["parameters", fullNumber(model.parameters)],
      [multiplyAddsLabel(model), fullNumber(model.multiplyAdds)],
      ...Object.entries(model.facts),
    ];
    const problems = model.layers.map((layer, i) => [layer, i]).filter(([layer]) => layer.problem);
    this.fill(
      element("h2", {}, model.title),
      facts.length ? table([], facts.map(([name, text]) => [name, number(text)])) : null,
      problems.length ? element("h3", {}, counted(problems.length, "layer") + " with a problem") : null,
      problems.map(([layer, i]) =>
        element("div", { class: "problem" }, this.link(i), element("p", {}, layer.problem)),
      ),
      this.sharesOf("Parameters by kind of layer", "parameterCount"),
      this.sharesOf("Multiply-adds by kind of layer", "multiplyAdds"),
      this.largest(),
      element("h3", {}, "Colours"),
      this.legend(),
      model.notes.length ? element("h3", {}, "Notes on the definition") : null,
      model.notes.map((note) => element("p", { class: "muted" }, note)),
    );
  }

  sharesOf(title, field) {
    const { model } = this;
    const rows = Object.entries(model.kinds)
      .map(([kind, words]) => {
        const own = model.layers.filter((layer) => layer.kind === kind);
        return [words, own.reduce((sum, layer) => sum + layer[field], 0), kind];
      })
      .filter(([, value]) => value)
      .sort((a, b) => b[1] - a[1]);
    return rows.length ? [element("h3", {}, title), shareBars(rows, shortNumber)] : [];
  }

  /* The layers with the most parameters. */
  largest() {
    const { model } = this;
    const order = model.layers
      .map((layer, i) => [layer.parameterCount, i])
      .filter(([count]) => count)
      .sort((a, b) => b[0] - a[0])
      .slice(0, 6);
    if (!order.length) {
      return [];
    }
    const rows = order.map(([count, i]) => [
      this.link(i),
      number(fullNumber(count)),
      number(`${((100 * count) / model.parameters).toFixed(1)} %`),
    ]);
    return [element("h3", {}, "Most parameters"), table([], rows)];
  }

  legend() {
    return element(
      "div",
      { class: "legend" },
      ...Object.entries(this.model.kinds).map(([kind, words]) => this.kind(kind, words)),
    );
  }

  kind(kind, words) {
    const swatch = element("span", { class: "swatch", colour: `var(--${kind})` });
    return element("span", { class: "kind" }, swatch, words);
  }

  link(layer) {
    const { name } = this.model.layers[layer];
    return element(
      "button",
      { type: "button", class: "link", onclick: () => this.go(layer) },
      name || "(no name)",
    );
  }

  /* A group */

  showGroup(index, collapsed) {
    const { model } = this;
    const group = model.groups[index];
    const layers = model.layersOf(index);
    const rows = [
      ["layers", number(fullNumber(layers.length))],
      ["parameters", number(fullNumber(model.total(layers, "parameterCount")))],
      [multiplyAddsLabel(model), number(fullNumber(model.total(layers, "multiplyAdds")))],
    ];
    const words = {
      block: "block: branches that meet again",
      repetition: `repetition: ${group.count} equal parts in a row`,
      stage: "stage: layers whose names have the same number",
    }[group.kind];
    this.fill(
      element("h2", {}, groupTitle(group)),
      element("p", { class: "muted" }, words),
      element(
        "p",
        {},
        element(
          "button",
          { type: "button", id: "toggle", onclick: () => this.toggle(index) },
          collapsed ? "Show its layers" : "Draw as one box",
        ),
      ),
      table([], rows),
      element("h3", {}, "Layers"),
      table(
        [],
        layers.slice(0, 400).map((i) => [this.link(i), model.layers[i].type]),
      ),
    );
  }

  /* A layer */

  showLayer(index) {
    const { model } = this;
    const layer = model.layers[index];
    const readers = [...model.readers[index]];
    const arrays = model.arraysOf(index);
    this.fill(
      element("h2", {}, layer.name || "(no name)"),
      this.kind(layer.kind, layer.type),
      layer.problem ? element("div", { class: "problem" }, layer.problem) : null,
      this.counts(layer),
      layer.bottoms.length ? element("h3", {}, "Bottoms") : null,
      layer.bottoms.length ? this.bottoms(layer) : null,
      layer.tops.length ? element("h3", {}, "Tops") : null,
      layer.tops.length
        ? table([], layer.tops.map((top) => [top.name, number(shapeText(top.shape))]))
        : null,
      readers.length ? element("p", { class: "muted" }, "read by ", ...this.links(readers)) : null,
      layer.parameters.length ? element("h3", {}, "Parameters") : null,
      layer.parameters.length ? this.parameters(layer) : null,
      this.arrays("Activations", arrays.filter((array) => array.role === "activation")),
      this.arrays("Weights", arrays.filter((array) => array.role === "parameter")),
      element("h3", {}, "Definition"),
      element("pre", { tabindex: "0", id: "definition" }, layer.text),
      layer.place ? element("p", { class: "muted" }, layer.place) : null,
    );
  }

  counts(layer) {
    const rows = [];
    if (layer.parameterCount) {
      rows.push(["parameters", number(fullNumber(layer.parameterCount))]);
    }
    if (layer.multiplyAdds) {
      rows.push([multiplyAddsLabel(this.model), number(fullNumber(layer.multiplyAdds))]);
    }
    return rows.length ? table([], rows) : null;
  }

  bottoms(layer) {
    const rows = layer.bottoms.map((bottom) => {
      const makers = bottom.makers.length ? this.links(bottom.makers) : ["nothing"];
      const from = element("span", { class: "muted" }, " from ", ...makers);
      return [element("span", {}, bottom.name, from), number(shapeText(bottom.shape))];
    });
    return table([], rows);
  }

  links(layers) {
    return layers.flatMap((layer, i) => (i ? [", ", this.link(layer)] : [this.link(layer)]));
  }

  parameters(layer) {
    const rows = layer.parameters.map((parameter) => [
      parameter.owner ? `${parameter.name}, shared with ${parameter.owner}` : parameter.name,
      number(shapeText(parameter.shape)),
      number(parameter.owner ? "–" : fullNumber(parameter.count)),
      number(parameter.lr),
      number(parameter.decay),
    ]);
    return table(["", number("shape"), number("values"), number("lr"), number("decay")], rows);
  }

  arrays(title, arrays) {
    if (!arrays.length) {
      return [];
    }
    return [element("h3", {}, title), ...arrays.map((array) => this.array(array))];
  }

  array(array) {
    const picture = array.picture
      ? element(
          "figure",
          {},
          element("img", { src: array.picture, alt: `${array.name}: ${array.words}` }),
          element("figcaption", {}, array.words),
        )
      : null;
    const rows = [
      ["mean", number(plainNumber(array.mean)), "deviation", number(plainNumber(array.deviation))],
      ["norm", number(plainNumber(array.norm)), "zeros", number(`${(100 * array.zeros).toFixed(1)} %`)],
    ];
    const odd = array.notFinite
      ? element("div", { class: "problem" }, `${fullNumber(array.notFinite)} values are not finite`)
      : null;
    return element(
      "section",
      { class: "array" },
      element("p", {}, element("strong", {}, array.name), ` ${shapeText(array.shape)}`),
      array.note ? element("div", { class: "problem" }, array.note) : null,
      odd,
      picture,
      this.largestValues(array),
      array.histogram.length ? histogram(array) : null,
      array.sampled < array.count - array.notFinite
        ? element("p", { class: "muted" }, `histogram of ${fullNumber(array.sampled)} of the values`)
        : null,
      array.histogram.length ? table([], rows) : null,
    );
  }

  largestValues(array) {
    if (!array.largest.length) {
      return null;
    }
    return table(
      [],
      array.largest.map(([place, name, value]) => [`${place} ${name}`, number(value)]),
    );
  }
}

function table(head, rows) {
  return element(
    "table",
    {},
    head.length ? element("thead", {}, row(head, "th")) : null,
    element("tbody", {}, ...rows.map((cells) => row(cells))),
  );
}

function multiplyAddsLabel(model) {
  return model.batch > 1 ? `multiply-adds (batch of ${model.batch})` : "multiply-adds";
}

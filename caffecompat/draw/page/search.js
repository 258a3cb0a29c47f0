/* The search field: layers by name, type or blob, chosen by mouse or keys. */

const MOST_RESULTS = 300;

class Search {
  /* found(layers) marks what was found; choose(layer) goes to one. */
  constructor(model, input, list, found, choose) {
    this.model = model;
    this.input = input;
    this.list = list;
    this.found = found;
    this.choose = choose;
    this.results = [];
    this.at = -1;
    input.addEventListener("input", () => this.update());
    input.addEventListener("focus", () => this.update());
    input.addEventListener("keydown", (event) => this.key(event));
    input.addEventListener("blur", () => setTimeout(() => this.close(), 150));
    list.addEventListener("pointerdown", (event) => {
      const entry = event.target.closest("li[data-layer]");
      event.preventDefault();
      if (entry) {
        this.take(Number(entry.dataset.layer));
      }
    });
  }

  update() {
    const words = this.input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const texts = (layer) => {
      const blobs = [...layer.bottoms, ...layer.tops].map((blob) => blob.name);
      return [layer.name, layer.type, ...blobs].join("\n").toLowerCase();
    };
    const all = this.model.layers.map((_, i) => i);
    this.results = words.length
      ? all.filter((i) => words.every((word) => texts(this.model.layers[i]).includes(word)))
      : all;
    this.found(words.length ? new Set(this.results) : new Set());
    this.at = words.length && this.results.length ? 0 : -1;
    this.show();
  }

  show() {
    const shown = this.results.slice(0, MOST_RESULTS);
    const more = this.results.length - shown.length;
    const entries = shown.map((layer, i) => this.entry(layer, i));
    if (!shown.length) {
      entries.push(element("li", { class: "muted" }, "no layer has this in its name, type or blobs"));
    }
    if (more > 0) {
      entries.push(element("li", { class: "muted" }, `and ${counted(more, "more layer")}`));
    }
    this.list.replaceChildren(...entries);
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    this.mark();
  }

  entry(index, place) {
    const layer = this.model.layers[index];
    return element(
      "li",
      { role: "option", id: `result-${place}`, "data-layer": String(index), "aria-selected": "false" },
      element("span", { class: "swatch", colour: `var(--${layer.kind})` }),
      element("span", { class: "name" }, layer.name || "(no name)"),
      element("span", { class: "type" }, layer.type),
    );
  }

  mark() {
    this.list.querySelectorAll("[aria-selected=true]").forEach((entry) => {
      entry.setAttribute("aria-selected", "false");
    });
    const entry = this.at >= 0 ? this.list.children[this.at] : null;
    if (entry) {
      entry.setAttribute("aria-selected", "true");
      entry.scrollIntoView({ block: "nearest" });
      this.input.setAttribute("aria-activedescendant", entry.id);
    } else {
      this.input.removeAttribute("aria-activedescendant");
    }
  }

  key(event) {
    const last = Math.min(this.results.length, MOST_RESULTS) - 1;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      this.at = clamp(this.at + (event.key === "ArrowDown" ? 1 : -1), 0, last);
      this.mark();
    } else if (event.key === "Enter" && this.results[Math.max(this.at, 0)] !== undefined) {
      this.take(this.results[Math.max(this.at, 0)]);
    } else if (event.key === "Escape") {
      this.input.value = "";
      this.found(new Set());
      this.close();
      this.input.blur();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  take(layer) {
    this.close();
    this.choose(layer);
  }

  close() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
  }
}

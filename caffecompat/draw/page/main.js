/* Joins model, layout, view, panel and search, and answers mouse and keys. */

/* A net with more boxes begins with its repetitions closed. */
const MANY_BOXES = 90;
const DRAG_START = 4;

class Page {
  constructor(model) {
    this.model = model;
    this.canvas = document.getElementById("drawing");
    this.overview = document.getElementById("overview");
    this.painter = new Painter(model, this.canvas);
    this.state = { key: null, layer: null, group: null, found: new Set() };
    this.view = new View(this.canvas, () => this.repaint());
    this.panel = new Panel(
      model,
      document.getElementById("panel"),
      (layer) => this.selectLayer(layer),
      (group) => this.toggle(group),
    );
    this.search = new Search(
      model,
      document.getElementById("search"),
      document.getElementById("results"),
      (found) => this.mark(found),
      (layer) => this.choose(layer),
    );
    const many = model.boxes.length > MANY_BOXES;
    this.collapsed = new Set(many ? this.groupsOfKind("repetition") : []);
    this.title();
    this.lay();
    this.view.begin(this.layout);
    this.panel.showNet();
    this.listen();
  }

  title() {
    const { model } = this;
    document.getElementById("title").textContent = model.title;
    const words = [
      counted(model.layers.length, "layer"),
      `${shortNumber(model.parameters)} parameters`,
      `${shortNumber(model.multiplyAdds)} multiply-adds`,
    ];
    document.getElementById("subtitle").textContent = words.join(" · ");
  }

  /* Groups */

  groupsOfKind(...kinds) {
    return this.model.groups.flatMap((group, i) => (kinds.includes(group.kind) ? [i] : []));
  }

  lay() {
    this.layout = new Layout(this.model, this.collapsed, (key) => this.painter.measure(key));
    this.closedKinds();
    this.repaint();
  }

  /* Shows which of the three buttons describes the drawing. */
  closedKinds() {
    const wanted = {
      collapse: this.blockGroups(),
      stages: this.groupsOfKind("repetition", "block", "stage"),
      expand: [],
    };
    for (const [id, groups] of Object.entries(wanted)) {
      const same =
        groups.length === this.collapsed.size && groups.every((g) => this.collapsed.has(g));
      const possible = id === "expand" || groups.length > 0;
      const button = document.getElementById(id);
      button.disabled = !possible;
      button.setAttribute("aria-pressed", String(possible && same));
    }
  }

  blockGroups() {
    return this.groupsOfKind("repetition", "block");
  }

  setCollapsed(groups) {
    this.collapsed = new Set(groups);
    this.lay();
    if (this.state.layer !== null) {
      this.state.key = this.keyOfLayer(this.state.layer);
    }
    this.view.begin(this.layout);
  }

  toggle(group) {
    const key = `g${group}`;
    const before = this.placeOf(key);
    if (this.collapsed.has(group)) {
      this.collapsed.delete(group);
    } else {
      this.collapsed.add(group);
    }
    this.lay();
    this.view.keep(before, this.placeOf(key));
    this.selectGroup(group);
  }

  placeOf(key) {
    return this.layout.itemOf.get(key) ?? this.layout.frames.find((frame) => frame.key === key);
  }

  /* Selection */

  keyOfLayer(layer) {
    return this.layout.chains[this.model.boxOf.get(layer)].at(-1);
  }

  selectLayer(layer, reveal = true) {
    const around = this.model.groupsAround(this.model.boxOf.get(layer));
    if (around.some((group) => this.collapsed.has(group))) {
      around.forEach((group) => this.collapsed.delete(group));
      this.lay();
    }
    const key = this.keyOfLayer(layer);
    Object.assign(this.state, { key, layer, group: null });
    this.panel.showLayer(layer);
    const { name, type } = this.model.layers[layer];
    this.announce(`${name}, ${type}`);
    if (reveal) {
      this.view.reveal(this.placeOf(key));
    }
    this.repaint();
  }

  selectGroup(group) {
    Object.assign(this.state, { key: `g${group}`, layer: null, group });
    this.panel.showGroup(group, this.collapsed.has(group));
    this.announce(groupTitle(this.model.groups[group]));
    this.repaint();
  }

  selectNothing() {
    Object.assign(this.state, { key: null, layer: null, group: null });
    this.panel.showNet();
    this.repaint();
  }

  choose(layer) {
    this.selectLayer(layer);
    this.canvas.focus();
  }

  mark(found) {
    this.state.found = found;
    this.repaint();
  }

  announce(text) {
    document.getElementById("announcement").textContent = text;
  }

  /* Painting */

  repaint() {
    if (this.pending || !this.view || !this.layout) {
      return;
    }
    this.pending = true;
    requestAnimationFrame((now) => {
      this.pending = false;
      const moving = this.view.step(now);
      this.drawn = this.painter.paint(this.layout, this.view, this.state);
      this.painter.overview(this.overview, this.layout, this.view);
      if (moving) {
        this.repaint();
      }
    });
  }

  /* Mouse, touch and keys */

  listen() {
    for (const kind of ["pointerdown", "wheel", "keydown"]) {
      const hide = () => document.getElementById("keys").classList.add("used");
      this.canvas.addEventListener(kind, hide, { once: true, passive: true });
    }
    new ResizeObserver(() => this.repaint()).observe(this.canvas);
    this.listenToPointers();
    this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.canvas.addEventListener("dblclick", (event) => this.doubleClick(event));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.overview.addEventListener("pointerdown", (event) => this.jump(event));
    document.addEventListener("keydown", (event) => {
      const typing = event.target.matches("input");
      if (event.key === "/" && !typing) {
        event.preventDefault();
        this.search.input.focus();
        this.search.input.select();
      }
    });
    const buttons = {
      collapse: () => this.setCollapsed(this.blockGroups()),
      stages: () => this.setCollapsed(this.groupsOfKind("repetition", "block", "stage")),
      expand: () => this.setCollapsed([]),
      fit: () => this.view.fit(this.layout),
      "zoom-in": () => this.view.zoomAt(1.3),
      "zoom-out": () => this.view.zoomAt(1 / 1.3),
      theme: () => this.setTheme(currentTheme() === "dark" ? "light" : "dark"),
    };
    for (const [id, act] of Object.entries(buttons)) {
      document.getElementById(id).addEventListener("click", act);
    }
    const scheme = window.matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", () => this.setTheme(scheme.matches ? "dark" : "light"));
  }

  listenToPointers() {
    const pointers = new Map();
    let moved = false;
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      canvas.focus({ preventScroll: true });
      pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
      moved = pointers.size > 1;
      this.start = { x: event.offsetX, y: event.offsetY };
    });
    canvas.addEventListener("pointermove", (event) => {
      const last = pointers.get(event.pointerId);
      if (!last) {
        this.pointAt(event);
        return;
      }
      const now = { x: event.offsetX, y: event.offsetY };
      moved ||= distance(now, this.start) > DRAG_START;
      if (moved) {
        canvas.classList.add("dragging");
        this.drag(pointers, event.pointerId, last, now);
      }
      pointers.set(event.pointerId, moved ? now : last);
    });
    const end = (event) => {
      pointers.delete(event.pointerId);
      canvas.classList.remove("dragging");
      if (!moved && event.type === "pointerup") {
        this.click(event.offsetX, event.offsetY);
      }
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
  }

  /* One pointer moves the drawing, two zoom it. */
  drag(pointers, id, last, now) {
    const other = [...pointers].find(([pointer]) => pointer !== id)?.[1];
    if (other) {
      const factor = distance(now, other) / Math.max(distance(last, other), 1);
      this.view.zoomAt(factor, (now.x + other.x) / 2, (now.y + other.y) / 2);
    } else {
      this.view.moveBy(last.x - now.x, last.y - now.y);
    }
  }

  wheel(event) {
    event.preventDefault();
    const unit = [1, 16, this.view.height][event.deltaMode];
    if (event.ctrlKey || event.metaKey) {
      const factor = Math.exp(-clamp(event.deltaY * unit, -120, 120) * 0.004);
      this.view.zoomAt(factor, event.offsetX, event.offsetY);
    } else if (event.shiftKey) {
      this.view.moveBy(event.deltaY * unit, 0);
    } else {
      this.view.moveBy(event.deltaX * unit, event.deltaY * unit);
    }
  }

  jump(event) {
    const { scale, left, top } = this.painter.overviewPlace;
    const x = (event.offsetX - left) / scale;
    const y = (event.offsetY - top) / scale;
    const { view } = this;
    view.glideTo(x - view.width / 2 / view.scale, y - view.height / 2 / view.scale, view.scale);
  }

  /* What is at a point of the screen: {item}, {frame} or null, and whether it is its button. */
  hit(sx, sy) {
    const { x, y } = this.view.toDrawing(sx, sy);
    const inside = (place) =>
      x >= place.x && x <= place.x + place.w && y >= place.y && y <= place.y + place.h;
    const onToggle = (place) => x <= place.x + TOGGLE + 16 && y <= place.y + TOGGLE + 14;
    const item = this.layout.items.find(inside);
    if (item) {
      return { item, x, y, toggle: item.key[0] === "g" && onToggle(item) };
    }
    const frame = this.layout.frames.findLast(inside);
    return frame ? { frame, x, y, toggle: onToggle(frame) } : null;
  }

  click(sx, sy) {
    const hit = this.hit(sx, sy);
    if (!hit) {
      this.selectNothing();
      return;
    }
    const { key } = hit.item ?? hit.frame;
    const index = Number(key.slice(1));
    if (hit.toggle) {
      this.toggle(index);
    } else if (key[0] === "g") {
      this.selectGroup(index);
    } else {
      this.selectLayer(this.layerAt(hit), false);
    }
  }

  /* The layer of a box at a point: the first one, or one of those that work in place. */
  layerAt({ item, y }) {
    const layers = this.model.boxes[Number(item.key.slice(1))];
    const strip = Math.floor((y - item.y - HEAD_HEIGHT) / STRIP_HEIGHT);
    return layers[clamp(strip + 1, 0, layers.length - 1)];
  }

  doubleClick(event) {
    const hit = this.hit(event.offsetX, event.offsetY);
    if (hit?.item?.key[0] === "g" && !hit.toggle) {
      this.toggle(Number(hit.item.key.slice(1)));
    }
  }

  pointAt(event) {
    const hit = this.hit(event.offsetX, event.offsetY);
    this.canvas.style.cursor = hit && (hit.item || hit.toggle) ? "pointer" : "";
  }

  key(event) {
    const steps = {
      ArrowDown: () => this.along("after"),
      ArrowUp: () => this.along("before"),
      ArrowLeft: () => this.aside(-1),
      ArrowRight: () => this.aside(1),
      Home: () => this.goTo(this.topmost()),
      End: () => this.goTo(this.topmost(true)),
      Enter: () => this.open(),
      " ": () => this.open(),
      Escape: () => this.selectNothing(),
      "+": () => this.view.zoomAt(1.3),
      "=": () => this.view.zoomAt(1.3),
      "-": () => this.view.zoomAt(1 / 1.3),
      0: () => this.view.fit(this.layout),
    };
    const act = steps[event.key];
    if (act && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      act();
    }
  }

  topmost(last = false) {
    const order = [...this.layout.items].sort((a, b) => a.y - b.y || a.x - b.x);
    return order.at(last ? -1 : 0);
  }

  /* Selects an item, a box by its first or its last layer. */
  goTo(item, last = false) {
    if (!item) {
      return;
    }
    const index = Number(item.key.slice(1));
    if (item.key[0] === "g") {
      this.selectGroup(index);
      this.view.reveal(item);
    } else {
      this.selectLayer(this.model.boxes[index].at(last ? -1 : 0));
    }
  }

  /* The boxes of what is selected. */
  selectedBoxes() {
    const { key } = this.state;
    if (key === null) {
      return [];
    }
    const index = Number(key.slice(1));
    return key[0] === "b" ? [index] : this.model.groups[index].boxes;
  }

  /* Along a line; within a box first through the layers that work in place. */
  along(side) {
    const boxes = this.selectedBoxes();
    if (!boxes.length) {
      this.goTo(this.topmost());
      return;
    }
    const { layer } = this.state;
    if (layer !== null) {
      const layers = this.model.boxes[boxes[0]];
      const next = layers[layers.indexOf(layer) + (side === "after" ? 1 : -1)];
      if (next !== undefined) {
        this.selectLayer(next);
        return;
      }
    }
    const inside = new Set(boxes);
    const keys = boxes
      .flatMap((box) => [...this.model[side][box]])
      .filter((box) => !inside.has(box))
      .map((box) => this.layout.chains[box].at(-1));
    const here = this.placeOf(this.state.key);
    const items = [...new Set(keys)].map((key) => this.layout.itemOf.get(key));
    items.sort((a, b) => middleDistance(a, here) - middleDistance(b, here));
    this.goTo(items[0], side === "before");
  }

  /* To the nearest item at the left or right at about the same height. */
  aside(direction) {
    const here = this.state.key === null ? null : this.placeOf(this.state.key);
    if (!here) {
      this.goTo(this.topmost());
      return;
    }
    const beside = this.layout.items.filter((item) => {
      const away = (item.x + item.w / 2 - here.x - here.w / 2) * direction;
      return away > 1 && item.y < here.y + here.h && item.y + item.h > here.y;
    });
    beside.sort((a, b) => Math.abs(a.x - here.x) - Math.abs(b.x - here.x));
    this.goTo(beside[0]);
  }

  open() {
    if (this.state.group !== null) {
      this.toggle(this.state.group);
    } else if (this.state.layer !== null) {
      document.getElementById("panel").focus();
    }
  }

  setTheme(theme) {
    document.documentElement.dataset.theme = theme;
    this.painter.readColours();
    this.repaint();
  }
}

function distance(a, b) {
  return Math.hypot(a.x - b.x, a.y - b.y);
}

function middleDistance(a, b) {
  return Math.abs(a.x + a.w / 2 - b.x - b.w / 2);
}

function currentTheme() {
  return document.documentElement.dataset.theme;
}

document.documentElement.dataset.theme = window.matchMedia("(prefers-color-scheme: dark)").matches
  ? "dark"
  : "light";

/* Scripts that test the page use it by this name. */
window.netPage = new Page(new Model(JSON.parse(document.getElementById("net").textContent)));

/* Draws a layout on a canvas: only what the window shows, and no text that is too small to read. */

const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif';
const NAME_FONT = `600 13px ${FONT}`;
const SMALL_FONT = `11.5px ${FONT}`;
const HEAD_HEIGHT = 42;
const STRIP_HEIGHT = 19;
const GROUP_HEIGHT = 50;
const NARROWEST = 96;
const WIDEST = 290;
const PADDING = 11;
const RADIUS = 6;
/* Below this scale names of boxes are left out. */
const TEXT_SCALE = 0.42;
const TOGGLE = 16;

class Painter {
  constructor(model, canvas) {
    this.model = model;
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.texts = new Map();
    this.colours = {};
    this.readColours();
  }

  readColours() {
    const style = getComputedStyle(document.documentElement);
    const names = ["ground", "surface", "text", "muted", "accent", "edge", "frame", "frame-line"];
    for (const name of [...names, "accent-soft", "problem", ...Object.keys(this.model.kinds)]) {
      this.colours[name] = style.getPropertyValue(`--${name}`).trim();
    }
  }

  /* Sizes */

  measure(key) {
    const index = Number(key.slice(1));
    return key[0] === "b" ? this.measureBox(index) : this.measureGroup(index);
  }

  measureBox(box) {
    const layers = this.model.boxes[box].map((layer) => this.model.layers[layer]);
    const [first, ...others] = layers;
    const widths = [
      this.textWidth(first.name, NAME_FONT),
      this.textWidth(boxDetail(first), SMALL_FONT),
      ...others.map((layer) => this.textWidth(stripText(layer), SMALL_FONT)),
    ];
    return {
      w: clamp(Math.max(...widths) + 2 * PADDING + 6, NARROWEST, WIDEST),
      h: HEAD_HEIGHT + STRIP_HEIGHT * others.length,
    };
  }

  measureGroup(index) {
    const group = this.model.groups[index];
    const label = this.textWidth(groupTitle(group), NAME_FONT);
    const detail = this.textWidth(groupDetail(this.model, index), SMALL_FONT);
    const w = clamp(Math.max(label, detail) + 2 * PADDING + TOGGLE + 12, 150, WIDEST + 60);
    return { w, h: GROUP_HEIGHT, frame: Math.min(label, 260) + 2 * PADDING + TOGGLE + 14 };
  }

  textWidth(text, font) {
    this.context.font = font;
    return this.context.measureText(text.slice(0, 200)).width;
  }

  /* A text cut to a width, its end kept, since names differ there. */
  fitted(text, width, font) {
    const key = `${font}|${Math.round(width)}|${text}`;
    if (!this.texts.has(key)) {
      let shown = text.length > 200 ? `${text.slice(0, 100)}…${text.slice(-99)}` : text;
      let keep = shown.length;
      while (keep > 2 && this.textWidth(shown, font) > width) {
        keep -= 1;
        const front = Math.ceil(keep / 2);
        shown = `${text.slice(0, front)}…${text.slice(text.length - (keep - front))}`;
      }
      this.texts.set(key, shown);
    }
    return this.texts.get(key);
  }

  /* Painting */

  /* Draws the visible part; returns how many items were drawn. */
  paint(layout, view, state) {
    const ratio = window.devicePixelRatio || 1;
    const { context, canvas } = this;
    const width = Math.round(view.width * ratio);
    const height = Math.round(view.height * ratio);
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    const s = view.scale * ratio;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = this.colours.ground;
    context.fillRect(0, 0, width, height);
    context.setTransform(s, 0, 0, s, -view.x * s, -view.y * s);
    const seen = {
      left: view.x,
      top: view.y,
      right: view.x + view.width / view.scale,
      bottom: view.y + view.height / view.scale,
    };
    const readable = view.scale >= TEXT_SCALE;
    // Without text the colours say what a box is.
    this.strong = !readable;
    layout.frames.forEach((frame) => sees(seen, frame) && this.frame(frame, view, state));
    this.lines(layout, seen, view, state);
    if (readable) {
      layout.frames.forEach((frame) => sees(seen, frame) && this.frameLabel(frame));
    }
    let drawn = 0;
    for (const item of layout.items) {
      if (sees(seen, item)) {
        drawn += 1;
        if (item.key[0] === "b") {
          this.box(item, readable, state);
        } else {
          this.group(item, readable, view, state);
        }
      }
    }
    if (view.scale >= 0.62) {
      this.shapes(layout, seen);
    }
    return drawn;
  }

  frame(frame, view, state) {
    const { context, colours } = this;
    const index = Number(frame.key.slice(1));
    const selected = state.group === index;
    context.fillStyle = colours.frame;
    context.strokeStyle = selected ? colours.accent : colours["frame-line"];
    context.lineWidth = (selected ? 2 : 1) / Math.max(view.scale, 0.4);
    this.rounded(frame.x, frame.y, frame.w, frame.h, 10);
    context.fill();
    context.stroke();
  }

  /* The name of an open group, above lines that pass it, and the button that closes it. */
  frameLabel(frame) {
    const { context, colours } = this;
    const room = frame.w - TOGGLE - 30;
    const title = groupTitle(this.model.groups[Number(frame.key.slice(1))]);
    const shown = this.fitted(title, room, SMALL_FONT);
    context.fillStyle = colours.frame;
    context.fillRect(frame.x + 10, frame.y + 7, this.textWidth(shown, SMALL_FONT) + TOGGLE + 10, 18);
    this.toggle(frame.x + 10, frame.y + 8, false);
    context.fillStyle = colours.muted;
    this.text(title, frame.x + 15 + TOGGLE, frame.y + 16, room, SMALL_FONT);
  }

  lines(layout, seen, view, state) {
    const { context, colours } = this;
    const near = { key: state.key };
    const chosen = [];
    context.strokeStyle = colours.edge;
    context.fillStyle = colours.edge;
    context.lineWidth = Math.max(1.2, 0.8 / view.scale);
    context.beginPath();
    const heads = [];
    for (const line of layout.lines) {
      const top = Math.min(line.y1, line.y2);
      const bottom = Math.max(line.y1, line.y2 + line.through);
      const left = Math.min(line.x1, line.x2);
      const right = Math.max(line.x1, line.x2);
      const hidden =
        bottom < seen.top || top > seen.bottom || right < seen.left || left > seen.right;
      if (!hidden) {
        if (near.key && (line.origin === near.key || line.goals.has(near.key))) {
          chosen.push(line);
        } else {
          trace(context, line);
          if (line.arrow) {
            heads.push(line);
          }
        }
      }
    }
    context.stroke();
    if (view.scale > 0.25) {
      heads.forEach((line) => arrowHead(context, line.x2, line.y2));
    }
    context.strokeStyle = colours.accent;
    context.fillStyle = colours.accent;
    context.lineWidth = Math.max(2.2, 1.4 / view.scale);
    context.beginPath();
    chosen.forEach((line) => trace(context, line));
    context.stroke();
    chosen.filter((line) => line.arrow).forEach((line) => arrowHead(context, line.x2, line.y2));
  }

  box(item, readable, state) {
    const { context, colours, model } = this;
    const layers = model.boxes[Number(item.key.slice(1))];
    const [first, ...others] = layers;
    const layer = model.layers[first];
    context.fillStyle = colours.surface;
    this.rounded(item.x, item.y, item.w, item.h, RADIUS);
    context.fill();
    context.save();
    context.clip();
    this.tint(layer.kind, item.x, item.y, item.w, HEAD_HEIGHT);
    others.forEach((other, i) => {
      const y = item.y + HEAD_HEIGHT + i * STRIP_HEIGHT;
      this.tint(model.layers[other].kind, item.x, y, item.w, STRIP_HEIGHT);
      if (state.layer === other) {
        context.fillStyle = colours["accent-soft"];
        context.fillRect(item.x + 4, y, item.w, STRIP_HEIGHT);
      }
    });
    context.restore();
    this.outline(item, layers.some((i) => model.layers[i].problem), state.key === item.key);
    if (state.found.size) {
      this.mark(item, layers, state);
    }
    if (!readable) {
      return;
    }
    const room = item.w - 2 * PADDING - 4;
    context.fillStyle = colours.text;
    this.text(layer.name, item.x + PADDING + 4, item.y + 15, room, NAME_FONT);
    context.fillStyle = colours.muted;
    this.text(boxDetail(layer), item.x + PADDING + 4, item.y + 31, room, SMALL_FONT);
    others.forEach((other, i) => {
      const y = item.y + HEAD_HEIGHT + i * STRIP_HEIGHT + STRIP_HEIGHT / 2;
      context.fillStyle = colours.text;
      this.text(stripText(model.layers[other]), item.x + PADDING + 4, y, room, SMALL_FONT);
    });
  }

  /* The colour of a kind: a band at the left and a light ground. */
  tint(kind, x, y, w, h) {
    const { context, colours } = this;
    context.fillStyle = colours[kind];
    context.globalAlpha = this.strong ? 0.6 : 0.13;
    context.fillRect(x, y, w, h);
    context.globalAlpha = 1;
    context.fillRect(x, y, 4, h);
  }

  group(item, readable, view, state) {
    const { context, colours, model } = this;
    const index = Number(item.key.slice(1));
    const group = model.groups[index];
    // A repetition looks like a pile of boxes.
    const behind = group.kind === "repetition" ? [6, 3] : [];
    const inset = behind[0] ?? 0;
    const inner = { x: item.x, y: item.y, w: item.w - inset, h: item.h - inset };
    context.lineWidth = 1;
    context.strokeStyle = colours["frame-line"];
    context.fillStyle = colours.surface;
    for (const shift of [...behind, 0]) {
      this.rounded(item.x + shift, item.y + shift, inner.w, inner.h, RADIUS);
      context.fill();
      context.stroke();
    }
    this.kindBar(inner, group, readable ? 4 : inner.h);
    const problem = model.layersOf(index).some((layer) => model.layers[layer].problem);
    this.outline(inner, problem, state.key === item.key);
    if (state.found.size) {
      this.mark(inner, model.layersOf(index), state);
    }
    if (readable) {
      const room = inner.w - 2 * PADDING - TOGGLE - 6;
      this.toggle(inner.x + 9, inner.y + 9, true);
      context.fillStyle = colours.text;
      this.text(groupTitle(group), inner.x + 15 + TOGGLE, inner.y + 16, room, NAME_FONT);
      context.fillStyle = colours.muted;
      const detail = groupDetail(model, index);
      this.text(detail, inner.x + 15 + TOGGLE, inner.y + 31, room, SMALL_FONT);
    }
  }

  /* The kinds of a group's boxes, as shares of a bar at its lower side. */
  kindBar(item, group, height) {
    const { context, colours, model } = this;
    const counts = new Map();
    for (const box of group.boxes) {
      const { kind } = model.layers[model.boxes[box][0]];
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
    }
    context.save();
    this.rounded(item.x, item.y, item.w, item.h, RADIUS);
    context.clip();
    context.globalAlpha = this.strong ? 0.6 : 1;
    let x = item.x;
    for (const [kind, count] of counts) {
      const w = (item.w * count) / group.boxes.length;
      context.fillStyle = colours[kind];
      context.fillRect(x, item.y + item.h - height, w, height);
      x += w;
    }
    context.restore();
  }

  outline(item, problem, selected) {
    const { context, colours } = this;
    context.lineWidth = selected || problem ? 2 : 1;
    context.strokeStyle = selected ? colours.accent : problem ? colours.problem : colours["frame-line"];
    if (problem && !selected) {
      context.setLineDash([5, 3]);
    }
    this.rounded(item.x, item.y, item.w, item.h, RADIUS);
    context.stroke();
    context.setLineDash([]);
  }

  /* Shows which items the search has found, by fading the others. */
  mark(item, layers, state) {
    const { context, colours } = this;
    if (layers.some((layer) => state.found.has(layer))) {
      context.strokeStyle = colours.accent;
      context.lineWidth = 3;
      this.rounded(item.x - 2, item.y - 2, item.w + 4, item.h + 4, RADIUS + 2);
      context.stroke();
    } else {
      context.globalAlpha = 0.6;
      context.fillStyle = colours.ground;
      context.fillRect(item.x, item.y, item.w, item.h);
      context.globalAlpha = 1;
    }
  }

  toggle(x, y, plus) {
    const { context, colours } = this;
    context.strokeStyle = colours.muted;
    context.lineWidth = 1.2;
    this.rounded(x, y, TOGGLE, TOGGLE, 4);
    context.stroke();
    context.beginPath();
    context.moveTo(x + 4, y + TOGGLE / 2);
    context.lineTo(x + TOGGLE - 4, y + TOGGLE / 2);
    if (plus) {
      context.moveTo(x + TOGGLE / 2, y + 4);
      context.lineTo(x + TOGGLE / 2, y + TOGGLE - 4);
    }
    context.stroke();
  }

  /* The shape of what leaves an item, beside the line below it. */
  shapes(layout, seen) {
    const { context, colours, model } = this;
    context.fillStyle = colours.muted;
    const done = new Set();
    for (const line of layout.lines) {
      const item = layout.itemOf.get(line.origin);
      const leaves = item && line.y1 >= item.y + item.h - 8 && line.y1 <= item.y + item.h + 1;
      if (!leaves || done.has(line.origin) || !sees(seen, { ...item, h: item.h + 20 })) {
        continue;
      }
      done.add(line.origin);
      const shape = leavingShape(model, line.origin);
      if (shape) {
        context.font = `10.5px ${FONT}`;
        context.textBaseline = "middle";
        context.fillText(shape, line.x1 + 7, item.y + item.h + 9);
      }
    }
  }

  text(text, x, y, room, font) {
    const shown = this.fitted(text, room, font);
    this.context.font = font;
    this.context.textBaseline = "middle";
    this.context.fillText(shown, x, y);
  }

  rounded(x, y, w, h, radius) {
    this.context.beginPath();
    this.context.roundRect(x, y, w, h, radius);
  }

  /* The whole net in small, with the part that the window shows. */
  overview(canvas, layout, view) {
    const whole = view.width / view.scale >= layout.width && view.height / view.scale >= layout.height;
    canvas.hidden = whole || view.width < 600;
    if (canvas.hidden) {
      return;
    }
    const ratio = window.devicePixelRatio || 1;
    const small = this.smallPicture(layout, view, ratio);
    const { scale, left, top, w, h } = this.overviewPlace;
    if (canvas.width !== small.width || canvas.height !== small.height) {
      canvas.width = small.width;
      canvas.height = small.height;
      canvas.style.width = `${w}px`;
      canvas.style.height = `${h}px`;
    }
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(small, 0, 0);
    context.setTransform(ratio, 0, 0, ratio, left * ratio, top * ratio);
    context.strokeStyle = this.colours.accent;
    context.lineWidth = 1.5;
    const shown = [view.width / view.scale, view.height / view.scale];
    context.strokeRect(view.x * scale, view.y * scale, shown[0] * scale, shown[1] * scale);
  }

  /* The net in small without the window, kept until the layout, the colours or the size change. */
  smallPicture(layout, view, ratio) {
    const same = [layout, this.colours.ground, view.height, ratio];
    if (this.small && same.every((value, i) => value === this.smallOf[i])) {
      return this.small;
    }
    const most = { w: 150, h: Math.max(120, view.height * 0.55) };
    const scale = Math.min(most.w / layout.width, most.h / layout.height);
    const margin = 6;
    const w = Math.max(34, layout.width * scale) + 2 * margin;
    const h = layout.height * scale + 2 * margin;
    const left = (w - layout.width * scale) / 2;
    this.overviewPlace = { scale, left, top: margin, w, h };
    this.smallOf = same;
    this.small = document.createElement("canvas");
    this.small.width = Math.round(w * ratio);
    this.small.height = Math.round(h * ratio);
    const context = this.small.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, left * ratio, margin * ratio);
    for (const item of layout.items) {
      const index = Number(item.key.slice(1));
      const box = item.key[0] === "b" ? index : this.model.groups[index].boxes[0];
      context.fillStyle = this.colours[this.model.layers[this.model.boxes[box][0]].kind];
      const size = [Math.max(1.5, item.w * scale), Math.max(1, item.h * scale)];
      context.fillRect(item.x * scale, item.y * scale, ...size);
    }
    return this.small;
  }
}

function sees(seen, item) {
  return (
    item.x <= seen.right &&
    item.x + item.w >= seen.left &&
    item.y <= seen.bottom &&
    item.y + item.h >= seen.top
  );
}

function trace(context, line) {
  const bend = (line.y2 - line.y1) * 0.5;
  context.moveTo(line.x1, line.y1);
  if (line.x1 === line.x2) {
    context.lineTo(line.x2, line.y2);
  } else {
    context.bezierCurveTo(line.x1, line.y1 + bend, line.x2, line.y2 - bend, line.x2, line.y2);
  }
  if (line.through) {
    context.lineTo(line.x2, line.y2 + line.through);
  }
}

function arrowHead(context, x, y) {
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(x - 4, y - 7);
  context.lineTo(x + 4, y - 7);
  context.fill();
}

/* Texts of items */

function boxDetail(layer) {
  return layer.geometry ? `${layer.type}  ${layer.geometry}` : layer.type;
}

function stripText(layer) {
  return `${layer.type}  ${layer.name}`;
}

function groupTitle(group) {
  return group.kind === "repetition" ? `${group.count} × ${group.label}` : group.label;
}

function groupDetail(model, index) {
  const layers = model.layersOf(index);
  const parameters = model.total(layers, "parameterCount");
  const words = [counted(layers.length, "layer")];
  if (parameters) {
    words.push(`${shortNumber(parameters)} parameters`);
  }
  return words.join(", ");
}

/* The shape of the only top that leaves an item, without the batch. */
function leavingShape(model, key) {
  const index = Number(key.slice(1));
  const box = key[0] === "b" ? index : Math.max(...model.groups[index].boxes);
  const { tops } = model.layers[model.boxes[box].at(-1)];
  const shape = tops.length === 1 ? tops[0].shape : null;
  return shape && shape.length > 1 ? shape.slice(1).join("×") : "";
}

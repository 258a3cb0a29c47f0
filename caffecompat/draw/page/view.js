/* The part of the drawing that the window shows. Screen = scale * (drawing - origin). */

const SMALLEST_SCALE = 0.02;
const LARGEST_SCALE = 4;
const GLIDE_MS = 180;

class View {
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.changed = changed;
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.glide = null;
  }

  get width() {
    return this.canvas.clientWidth;
  }

  get height() {
    return this.canvas.clientHeight;
  }

  moveBy(dx, dy) {
    this.glide = null;
    this.x += dx / this.scale;
    this.y += dy / this.scale;
    this.changed();
  }

  /* Zooms so that the point of the screen stays where it is. */
  zoomAt(factor, sx = this.width / 2, sy = this.height / 2) {
    this.glide = null;
    const scale = clamp(this.scale * factor, SMALLEST_SCALE, LARGEST_SCALE);
    this.x += sx / this.scale - sx / scale;
    this.y += sy / this.scale - sy / scale;
    this.scale = scale;
    this.changed();
  }

  toDrawing(sx, sy) {
    return { x: this.x + sx / this.scale, y: this.y + sy / this.scale };
  }

  toScreen(x, y) {
    return { x: (x - this.x) * this.scale, y: (y - this.y) * this.scale };
  }

  /* The first look: the whole width, and the top of a net that is too tall to be read whole. */
  begin(layout) {
    const readable = 0.8;
    const whole = this.scaleFor(layout.width, layout.height);
    const wide = this.scaleFor(layout.width, 1);
    this.scale = whole >= readable ? whole : Math.max(whole, Math.min(1, Math.max(wide, 0.3)));
    this.x = layout.width / 2 - this.width / 2 / this.scale;
    const spare = this.height / this.scale - layout.height;
    this.y = spare > 0 ? -spare / 2 : -24 / this.scale;
    this.changed();
  }

  fit(layout) {
    this.show({ x: 0, y: 0, w: layout.width, h: layout.height });
  }

  /* Moves to a rectangle of the drawing and zooms so that it is seen whole. */
  show(box) {
    const scale = this.scaleFor(box.w, box.h);
    this.glideTo(
      box.x + box.w / 2 - this.width / 2 / scale,
      box.y + box.h / 2 - this.height / 2 / scale,
      scale,
    );
  }

  /* Moves as little as needed to see a rectangle, at a size that can be read. */
  reveal(box) {
    const scale = clamp(this.scale, 0.7, 1.6);
    const margin = 40 / scale;
    const w = this.width / scale;
    const h = this.height / scale;
    let { x, y } = this;
    if (scale !== this.scale) {
      x = box.x + box.w / 2 - w / 2;
      y = box.y + box.h / 2 - h / 2;
    }
    x = Math.min(Math.max(x, box.x + box.w + margin - w), box.x - margin);
    y = Math.min(Math.max(y, box.y + box.h + margin - h), box.y - margin);
    this.glideTo(x, y, scale);
  }

  /* Keeps a rectangle at its place on the screen when the layout has changed. */
  keep(before, after) {
    if (before && after) {
      this.glide = null;
      this.x += after.x + after.w / 2 - before.x - before.w / 2;
      this.y += after.y - before.y;
    }
  }

  scaleFor(w, h) {
    const margin = 32;
    const scale = Math.min(
      (this.width - 2 * margin) / Math.max(w, 1),
      (this.height - 2 * margin) / Math.max(h, 1),
    );
    return clamp(scale, SMALLEST_SCALE, 1.4);
  }

  glideTo(x, y, scale) {
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (still) {
      Object.assign(this, { x, y, scale, glide: null });
    } else {
      const from = { x: this.x, y: this.y, scale: this.scale };
      this.glide = { from, to: { x, y, scale }, start: performance.now() };
    }
    this.changed();
  }

  /* Takes the next step of a movement; true while there is one. */
  step(now) {
    if (!this.glide) {
      return false;
    }
    const { from, to, start } = this.glide;
    const t = clamp((now - start) / GLIDE_MS, 0, 1);
    const share = 1 - (1 - t) ** 3;
    this.scale = from.scale * (to.scale / from.scale) ** share;
    // The middle of the window moves in a straight line.
    const middle = (end, side, size) => end[side] + size / 2 / end.scale;
    const mx = middle(from, "x", this.width) * (1 - share) + middle(to, "x", this.width) * share;
    const my = middle(from, "y", this.height) * (1 - share) + middle(to, "y", this.height) * share;
    this.x = mx - this.width / 2 / this.scale;
    this.y = my - this.height / 2 / this.scale;
    if (t === 1) {
      this.glide = null;
    }
    return this.glide !== null;
  }
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

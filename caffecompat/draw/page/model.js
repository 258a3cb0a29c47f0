"use strict";

/* The net of the page, with what follows from it: which box holds a layer, which boxes are
 * neighbours, which group is inside which. All names are untrusted text. */

class Model {
  constructor(values) {
    Object.assign(this, values);
    this.boxOf = new Map();
    this.boxes.forEach((layers, box) => layers.forEach((layer) => this.boxOf.set(layer, box)));
    this.readers = this.layers.map(() => new Set());
    this.layers.forEach((layer, position) =>
      layer.bottoms.forEach((bottom) =>
        bottom.makers.forEach((maker) => this.readers[maker].add(position)),
      ),
    );
    this.before = this.boxes.map(() => new Set());
    this.after = this.boxes.map(() => new Set());
    for (const [start, end] of this.edges) {
      this.after[start].add(end);
      this.before[end].add(start);
    }
    this.innermost = this.boxes.map(() => null);
    // Inner groups come first, so the first that holds a box is its innermost.
    this.groups.forEach((group, index) => {
      for (const box of group.boxes) {
        this.innermost[box] ??= index;
      }
    });
  }

  /* The groups around a box, the outermost first. */
  groupsAround(box) {
    return this.chain(this.innermost[box]);
  }

  /* A group and the groups around it, the outermost first. */
  chain(group) {
    const found = [];
    for (let g = group; g !== null; g = this.groups[g].parent) {
      found.unshift(g);
    }
    return found;
  }

  layersOf(group) {
    return this.groups[group].boxes.flatMap((box) => this.boxes[box]);
  }

  /* The sum of one number over layers. */
  total(layers, field) {
    return layers.reduce((sum, layer) => sum + this.layers[layer][field], 0);
  }

  /* What is stored about a layer's arrays, parsed when it is wanted. */
  arraysOf(layer) {
    const element = document.getElementById(`arrays-${layer}`);
    return element ? JSON.parse(element.textContent) : [];
  }
}

function shapeText(shape) {
  if (!shape) {
    return "unknown";
  }
  return shape.length ? shape.join(" × ") : "scalar";
}

/* 1234567 as 1.23 M. */
function shortNumber(value) {
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= size) {
      return `${(value / size).toPrecision(3)} ${unit}`;
    }
  }
  return String(value);
}

function fullNumber(value) {
  return value.toLocaleString("en-US");
}

/* A number with few digits, for statistics. */
function plainNumber(value) {
  if (value === 0) {
    return "0";
  }
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

function counted(count, noun) {
  return `${fullNumber(count)} ${noun}${count === 1 ? "" : "s"}`;
}

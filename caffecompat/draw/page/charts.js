/* Elements of the panel. Text is always set as text, never as HTML. */

const SVG = "http://www.w3.org/2000/svg";

/* element("p", {class: "muted"}, "text", child, ...) */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) {
      made.addEventListener(key.slice(2), value);
    } else if (key === "colour") {
      made.style.background = value;
    } else {
      made.setAttribute(key, value);
    }
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function row(cells, kind = "td") {
  return element(
    "tr",
    {},
    ...cells.map((cell) => {
      const isNumber = cell instanceof NumberCell;
      return element(kind, isNumber ? { class: "number" } : {}, isNumber ? cell.text : cell);
    }),
  );
}

class NumberCell {
  constructor(text) {
    this.text = text;
  }
}

function number(text) {
  return new NumberCell(text);
}

/* Bars for shares of a whole: [label, value, colour variable]. */
function shareBars(rows, format) {
  const largest = Math.max(...rows.map(([, value]) => value), 1);
  return element(
    "div",
    { class: "shares" },
    ...rows.flatMap(([label, value, colour]) => {
      const bar = element("span", { class: "bar", colour: `var(--${colour})` });
      bar.style.width = `${Math.max(1, (100 * value) / largest)}%`;
      return [element("span", {}, label), bar, element("span", { class: "number" }, format(value))];
    }),
  );
}

/* A histogram with a line at zero, and its ends below. */
function histogram(array) {
  const width = 320;
  const height = 76;
  const most = Math.max(...array.histogram);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "histogram");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "histogram");
  const step = width / array.histogram.length;
  array.histogram.forEach((count, i) => {
    if (!count) {
      return;
    }
    const bar = document.createElementNS(SVG, "rect");
    const tall = Math.max(1, (count / most) * (height - 2));
    const place = { x: i * step, y: height - tall, width: step - 0.6, height: tall };
    Object.entries(place).forEach(([key, value]) => bar.setAttribute(key, value));
    const low = array.minimum + ((array.maximum - array.minimum) * i) / array.histogram.length;
    const title = document.createElementNS(SVG, "title");
    title.textContent = `${fullNumber(count)} values from ${plainNumber(low)} on`;
    bar.append(title);
    svg.append(bar);
  });
  if (array.minimum < 0 && array.maximum > 0) {
    const zero = (-array.minimum / (array.maximum - array.minimum)) * width;
    const line = document.createElementNS(SVG, "line");
    Object.entries({ x1: zero, x2: zero, y1: 0, y2: height }).forEach(([key, value]) =>
      line.setAttribute(key, value),
    );
    svg.append(line);
  }
  const ends = element(
    "div",
    { class: "ends" },
    element("span", {}, plainNumber(array.minimum)),
    element("span", {}, plainNumber(array.maximum)),
  );
  return element("div", {}, svg, ends);
}

/* A layered layout from top to bottom. An open group is laid out by itself and is then one item of
 * the level around it, so that groups never overlap. Lines that leave or enter a group pass through
 * ports on its upper and lower side. */

const RANK_GAP = 34;
const ITEM_GAP = 26;
const LANE = 10;
const FRAME_SIDE = 16;
const FRAME_TOP = 32;
const FRAME_BOTTOM = 14;

class Layout {
  /* measure(box or group) gives {w, h}; collapsed: the set of groups that are drawn as one. */
  constructor(model, collapsed, measure) {
    this.model = model;
    this.collapsed = collapsed;
    this.measure = measure;
    this.chains = model.boxes.map((_, box) => this.visibleChain(box));
    this.items = [];
    this.frames = [];
    this.lines = [];
    const level = this.layLevel(null, this.levelsOfEdges());
    this.flatten(level, 0, 0);
    this.width = level.w;
    this.height = level.h;
    this.itemOf = new Map(this.items.map((item) => [item.key, item]));
  }

  /* Keys of the open groups around a box and of what is drawn for it at last: "g3", "b17". */
  visibleChain(box) {
    const chain = [];
    for (const group of this.model.groupsAround(box)) {
      chain.push(`g${group}`);
      if (this.collapsed.has(group)) {
        return chain;
      }
    }
    chain.push(`b${box}`);
    return chain;
  }

  /* For each level (an open group's key, or null) the lines through it, and its items. */
  levelsOfEdges() {
    const levels = new Map();
    const level = (key) => {
      if (!levels.has(key)) {
        levels.set(key, { items: new Set(), edges: new Map() });
      }
      return levels.get(key);
    };
    for (const chain of this.chains) {
      chain.forEach((key, depth) => level(depth ? chain[depth - 1] : null).items.add(key));
    }
    const add = (key, from, to, origin, goal) => {
      const edges = level(key).edges;
      const name = `${from}|${to}|${origin}`;
      if (!edges.has(name)) {
        edges.set(name, { from, to, origin, goals: new Set() });
      }
      edges.get(name).goals.add(goal);
    };
    for (const [start, end] of this.model.edges) {
      const a = this.chains[start];
      const b = this.chains[end];
      const origin = a.at(-1);
      const goal = b.at(-1);
      let common = 0;
      while (common < a.length && common < b.length && a[common] === b[common]) {
        common += 1;
      }
      if (common === a.length || common === b.length) {
        continue;
      }
      add(common ? a[common - 1] : null, a[common], b[common], origin, goal);
      for (let depth = common + 1; depth < a.length; depth += 1) {
        add(a[depth - 1], a[depth], "bottom", origin, goal);
      }
      for (let depth = common + 1; depth < b.length; depth += 1) {
        add(b[depth - 1], "top", b[depth], origin, goal);
      }
    }
    return levels;
  }

  layLevel(key, levels) {
    const { items: keys, edges: edgeMap } = levels.get(key);
    const nodes = new Map();
    for (const name of keys) {
      nodes.set(name, this.node(name, levels));
    }
    const edges = [...edgeMap.values()].map((edge) => ({
      ...edge,
      from: edge.from === "top" ? port(nodes, "top", edge.origin) : nodes.get(edge.from),
      to: edge.to === "bottom" ? port(nodes, "bottom", edge.origin) : nodes.get(edge.to),
    }));
    rankNodes(nodes, edges);
    const hops = hopsOf(nodes, edges);
    const ranks = [];
    for (const node of nodes.values()) {
      (ranks[node.rank] ??= []).push(node);
    }
    const filled = Array.from(ranks, (rank) => rank ?? []);
    const pulls = hops.map(pullOf);
    const ordered = orderRanks(filled, pulls);
    placeAlongRanks(ordered, [...pulls, ...exitPulls(nodes, pulls)], ITEM_GAP);
    return this.sizedLevel(key, ordered, hops);
  }

  node(name, levels) {
    const index = Number(name.slice(1));
    if (name[0] === "b") {
      return { name, ...this.measure(name) };
    }
    if (this.collapsed.has(index)) {
      return { name, ...this.measure(name) };
    }
    const level = this.layLevel(name, levels);
    return { name, level, w: level.w, h: level.h };
  }

  /* Moves a level's content to its own upper left corner and gives ranks their heights. */
  sizedLevel(key, ranks, hops) {
    const framed = key !== null;
    const side = framed ? FRAME_SIDE : 0;
    const all = ranks.flat();
    const left = Math.min(...all.map((node) => node.x - node.w / 2));
    const right = Math.max(...all.map((node) => node.x + node.w / 2));
    const least = framed ? this.measure(key).frame : 0;
    const spare = Math.max(0, least - (right - left + 2 * side)) / 2;
    let y = framed ? FRAME_TOP : 0;
    let started = false;
    for (const rank of ranks) {
      const tall = Math.max(0, ...rank.map((node) => node.h));
      const onlyPorts = rank.every((node) => node.port);
      if (started && !onlyPorts) {
        y += RANK_GAP;
      }
      started ||= !onlyPorts;
      for (const node of rank) {
        node.x += side + spare - left;
        node.y = node.port === "top" ? 0 : y + (node.lane ? 0 : (tall - node.h) / 2);
        node.h = node.lane ? tall : node.h;
      }
      y += tall;
    }
    const height = y + (framed ? FRAME_BOTTOM : 0);
    const ports = { top: new Map(), bottom: new Map() };
    for (const node of all) {
      if (node.port) {
        node.y = node.port === "top" ? 0 : height;
        ports[node.port].set(node.origin, node.x);
      }
    }
    const w = right - left + 2 * (side + spare);
    return { key, w, h: height, nodes: all, hops, ports };
  }

  /* Collects items, frames and lines with their places in the whole drawing. */
  flatten(level, dx, dy) {
    for (const node of level.nodes) {
      const place = { x: dx + node.x - node.w / 2, y: dy + node.y, w: node.w, h: node.h };
      if (node.level) {
        this.frames.push({ key: node.name, ...place });
        this.flatten(node.level, place.x, place.y);
      } else if (!node.lane && !node.port) {
        this.items.push({ key: node.name, ...place });
      }
    }
    for (const hop of level.hops) {
      const { upper, lower } = hop;
      const pull = pullOf(hop);
      this.lines.push({
        x1: dx + upper.x + pull.upperShift,
        y1: dy + upper.y + (upper.port ? 0 : upper.h),
        x2: dx + lower.x + pull.lowerShift,
        y2: dy + lower.y,
        through: lower.lane ? lower.h : 0,
        arrow: !lower.lane && !lower.port && !lower.level,
        origin: hop.origin,
        goals: hop.goals,
      });
    }
  }
}

/* The port of a level for lines from one origin; made when it is first asked for. */
function port(nodes, side, origin) {
  const name = `${side}:${origin}`;
  if (!nodes.has(name)) {
    nodes.set(name, { name, port: side, origin, w: LANE, h: 0 });
  }
  return nodes.get(name);
}

/* Ranks by the longest path from above. What reads nothing goes just above its first reader. */
function rankNodes(nodes, edges) {
  const outgoing = new Map();
  const waiting = new Map();
  for (const edge of edges) {
    append(outgoing, edge.from, edge.to);
    waiting.set(edge.to, (waiting.get(edge.to) ?? 0) + 1);
  }
  const hasTop = [...nodes.values()].some((node) => node.port === "top");
  const ready = [...nodes.values()].filter((node) => !waiting.get(node));
  for (const node of nodes.values()) {
    node.rank = hasTop && node.port !== "top" ? 1 : 0;
  }
  const free = ready.filter((node) => node.port !== "top");
  while (ready.length) {
    const node = ready.shift();
    for (const next of outgoing.get(node) ?? []) {
      next.rank = Math.max(next.rank, node.rank + 1);
      waiting.set(next, waiting.get(next) - 1);
      if (!waiting.get(next)) {
        ready.push(next);
      }
    }
  }
  for (const node of free) {
    const next = outgoing.get(node) ?? [];
    if (next.length) {
      node.rank = Math.max(node.rank, Math.min(...next.map((other) => other.rank)) - 1);
    }
  }
  const bottoms = [...nodes.values()].filter((node) => node.port === "bottom");
  const lowest = Math.max(
    ...[...nodes.values()].filter((node) => node.port !== "bottom").map((node) => node.rank),
  );
  bottoms.forEach((node) => (node.rank = lowest + 1));
}

/* Lines from rank to rank; those that pass a rank go through lanes, one for each origin. */
function hopsOf(nodes, edges) {
  const hops = new Map();
  for (const edge of edges) {
    let upper = edge.from;
    for (let rank = edge.from.rank + 1; rank <= edge.to.rank; rank += 1) {
      const lower = rank === edge.to.rank ? edge.to : lane(nodes, edge, rank);
      const name = `${upper.name}|${lower.name}|${edge.origin}`;
      if (!hops.has(name)) {
        hops.set(name, { upper, lower, origin: edge.origin, goals: new Set() });
      }
      edge.goals.forEach((goal) => hops.get(name).goals.add(goal));
      upper = lower;
    }
  }
  return [...hops.values()];
}

function lane(nodes, edge, rank) {
  const name = `${edge.from.name}>${edge.origin}>${rank}`;
  if (!nodes.has(name)) {
    nodes.set(name, { name, lane: true, rank, w: LANE, h: 0 });
  }
  return nodes.get(name);
}

/* Where a hop leaves its upper and meets its lower item, relative to their middles. */
function pullOf(hop) {
  return {
    upper: hop.upper,
    lower: hop.lower,
    upperShift: portShift(hop.upper, "bottom", hop.origin),
    lowerShift: portShift(hop.lower, "top", hop.origin),
    weight: hopWeight(hop.upper, hop.lower),
  };
}

/* In a group with one way in and one out, the exit goes below the entry, so that a row of equal
 * groups is straight. */
function exitPulls(nodes, pulls) {
  const ports = [...nodes.values()].filter((node) => node.port);
  const entry = ports.filter((node) => node.port === "top");
  const exit = pulls.filter((pull) => pull.lower.port === "bottom");
  if (entry.length !== 1 || exit.length !== 1) {
    return [];
  }
  const { upper, upperShift } = exit[0];
  const shifts = { upperShift: 0, lowerShift: upperShift };
  return [{ upper: entry[0], lower: upper, ...shifts, weight: 12, downOnly: true }];
}

/* Lanes shall be straight, then what follows box on box; where a lane begins or ends matters least. */
function hopWeight(upper, lower) {
  if (upper.lane && lower.lane) {
    return 6;
  }
  return upper.lane || lower.lane ? 1 : 3;
}

function portShift(node, side, origin) {
  const x = node.level?.ports[side].get(origin);
  return x === undefined ? 0 : x - node.w / 2;
}

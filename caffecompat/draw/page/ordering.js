/* The order of items within the ranks of a layered drawing, and their places along a rank. */

const ORDER_SWEEPS = 10;
const PLACE_SWEEPS = 14;
const LANE_WEIGHT = 0.02;

/* Reorders ranks to reduce crossings: each item goes to the mean place of its neighbours.
 * ranks: arrays of items; pulls: as of placeAlongRanks. */
function orderRanks(ranks, pulls) {
  const above = new Map();
  const below = new Map();
  for (const { upper, lower, upperShift, lowerShift } of pulls) {
    // Where a line meets its items, as parts of their widths.
    const ends = { upperPart: upperShift / upper.w, lowerPart: lowerShift / lower.w };
    append(above, lower, { item: upper, part: ends.upperPart - ends.lowerPart });
    append(below, upper, { item: lower, part: ends.lowerPart - ends.upperPart, ...ends });
  }
  let best = ranks.map((rank) => [...rank]);
  let fewest = crossings(best, below);
  for (let sweep = 0; sweep < ORDER_SWEEPS && fewest > 0; sweep += 1) {
    const down = sweep % 2 === 0;
    const order = ranks.map((_, i) => (down ? i : ranks.length - 1 - i));
    const place = new Map(ranks.flatMap((rank) => rank.map((item, i) => [item, i])));
    for (const r of order) {
      const wanted = new Map(
        ranks[r].map((item) => [item, meanOrder(item, down ? above : below, place)]),
      );
      ranks[r].sort((a, b) => wanted.get(a) - wanted.get(b) || place.get(a) - place.get(b));
      ranks[r].forEach((item, i) => place.set(item, i));
    }
    const count = crossings(ranks, below);
    if (count < fewest) {
      fewest = count;
      best = ranks.map((rank) => [...rank]);
    }
  }
  return best;
}

function meanOrder(item, near, place) {
  const others = near.get(item) ?? [];
  const sum = others.reduce((total, other) => total + place.get(other.item) + other.part, 0);
  return others.length ? sum / others.length : place.get(item);
}

/* How many lines cross, rank by rank. */
function crossings(ranks, below) {
  let count = 0;
  for (let r = 0; r + 1 < ranks.length; r += 1) {
    const place = new Map(ranks[r + 1].map((item, i) => [item, i]));
    const lines = ranks[r].flatMap((item, i) =>
      (below.get(item) ?? []).map((line) => ({
        start: i + line.upperPart,
        end: place.get(line.item) + line.lowerPart,
      })),
    );
    lines.sort((a, b) => a.start - b.start || a.end - b.end);
    for (let i = 0; i < lines.length; i += 1) {
      for (let j = i + 1; j < lines.length; j += 1) {
        count += lines[j].start > lines[i].start && lines[j].end < lines[i].end;
      }
    }
  }
  return count;
}

/* Gives every item its x, the middle, near its neighbours and without overlaps in its rank.
 * pulls: arrays {upper, lower, upperShift, lowerShift, weight}; the shifts are where a line begins
 * and ends relative to the middle of its items. A pull that is downOnly moves its lower item. */
function placeAlongRanks(ranks, pulls, gap) {
  const above = new Map();
  const below = new Map();
  for (const pull of pulls) {
    const shift = pull.upperShift - pull.lowerShift;
    append(above, pull.lower, { item: pull.upper, shift, weight: pull.weight });
    if (!pull.downOnly) {
      append(below, pull.upper, { item: pull.lower, shift: -shift, weight: pull.weight });
    }
  }
  for (const rank of ranks) {
    spread(rank, rank.map(() => 0), gap);
  }
  for (let sweep = 0; sweep < PLACE_SWEEPS; sweep += 1) {
    const down = sweep % 2 === 0;
    const order = down ? ranks : [...ranks].reverse();
    for (const rank of order) {
      const wanted = rank.map((item) => medianPlace(item, down ? above : below));
      spread(rank, wanted, gap);
    }
  }
  for (const rank of ranks) {
    spread(rank, rank.map((item) => medianPlace(item, above, below)), gap);
  }
}

function append(map, key, value) {
  if (!map.has(key)) {
    map.set(key, []);
  }
  map.get(key).push(value);
}

/* The weighted median of where the neighbours would like an item: it puts an item exactly below the
 * one that matters most, where a mean would bend every line. */
function medianPlace(item, ...sides) {
  const pulls = sides
    .flatMap((side) => side.get(item) ?? [])
    .map((pull) => ({ x: pull.item.x + pull.shift, weight: pull.weight }))
    .sort((a, b) => a.x - b.x);
  if (!pulls.length) {
    return item.x;
  }
  const half = pulls.reduce((sum, pull) => sum + pull.weight, 0) / 2;
  let sum = 0;
  for (let i = 0; i < pulls.length; i += 1) {
    sum += pulls[i].weight;
    if (sum > half) {
      return pulls[i].x;
    }
    if (sum === half) {
      return (pulls[i].x + pulls[i + 1].x) / 2;
    }
  }
  return pulls.at(-1).x;
}

/* The nearest places to the wanted ones at which items in this order do not overlap: a regression
 * under an order, by merging neighbours that are too close (pool adjacent violators). Lanes give
 * way to boxes. */
function spread(rank, wanted, gap) {
  const pools = [];
  let offset = 0;
  rank.forEach((item, i) => {
    if (i > 0) {
      offset += (rank[i - 1].w + item.w) / 2 + gap;
    }
    const weight = item.lane || item.port ? LANE_WEIGHT : 1;
    let pool = { sum: weight * (wanted[i] - offset), weight, items: [[item, offset]] };
    while (pools.length && pools.at(-1).sum / pools.at(-1).weight > pool.sum / pool.weight) {
      const last = pools.pop();
      pool = {
        sum: last.sum + pool.sum,
        weight: last.weight + pool.weight,
        items: [...last.items, ...pool.items],
      };
    }
    pools.push(pool);
  });
  for (const pool of pools) {
    for (const [item, distance] of pool.items) {
      item.x = pool.sum / pool.weight + distance;
    }
  }
}

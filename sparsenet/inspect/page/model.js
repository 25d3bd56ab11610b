// The network's layers, decoded from the page: typed arrays, and queries about a site.

const TYPES = {
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  int32: Int32Array,
  float32: Float32Array,
};

async function inflate(id) {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("this browser cannot decompress the page's data: open it in one from 2023 or later");
  }
  const text = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")));
}

async function loadModel() {
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const buffer = await (await inflate("arrays")).arrayBuffer();
  const array = (name) => {
    const [type, offset, shape] = facts.arrays[name];
    return new TYPES[type](
      buffer,
      offset,
      shape.reduce((a, b) => a * b, 1),
    );
  };
  const grids = facts.grids.map((grid, i) => ({
    ...grid,
    coordinates: array(`grid${i}.coordinates`),
    probes: array(`grid${i}.probes`),
    slotOf: array(`grid${i}.slots`),
  }));
  const layers = facts.layers.map((layer, i) => ({
    ...layer,
    index: i,
    // a layer without a grid has one row, drawn as one cell
    grid: layer.grid === null ? null : grids[layer.grid],
    features: quantised(array, `layer${i}.features`, layer.rows),
    lengths: quantised(array, `layer${i}.lengths`, layer.rows),
    neighbours: ["filter", "copy"].includes(layer.relation) ? array(`layer${i}.neighbours`) : null,
    shares:
      layer.relation === "filter" ? quantised(array, `layer${i}.shares`, layer.rows * layer.offsets.length) : null,
  }));
  const tops = facts.tops && {
    ...facts.tops,
    bits: array("tops.bits"),
    layers: facts.layers.map((layer, i) => i > 0 && topsOf(facts, array, `layer${i}.tops`)),
  };
  const mesh = facts.mesh && { ...facts.mesh, vertices: array("mesh.vertices"), faces: array("mesh.faces") };
  return { layers, mesh, tops, bits: facts.bits, target: facts.target };
}

// (place of the channel among those kept) -> its shapes, the greatest value first
function topsOf(facts, array, name) {
  const [, count] = facts.arrays[`${name}.shapes`][2];
  const [shapes, values, fields] = ["shapes", "values", "fields"].map((part) => array(`${name}.${part}`));
  const cells = facts.arrays[`${name}.cells`] ? array(`${name}.cells`) : null;
  return (c) =>
    Array.from({ length: count }, (_, rank) => {
      const i = c * count + rank;
      const [low, high] = [0, 3].map((begin) => [...fields.subarray(6 * i + begin, 6 * i + begin + 3)]);
      const cell = cells && [...cells.subarray(3 * i, 3 * i + 3)];
      return { shape: shapes[i], value: values[i], cell, field: [low, high] };
    });
}

// (channel, row) -> value; stored as integer steps between the channel's minimum and maximum
function quantised(array, name, rows) {
  const codes = array(name);
  const range = array(`${name}.range`);
  const channels = range.length / 2;
  const top = codes.BYTES_PER_ELEMENT === 1 ? 255 : 65535;
  return {
    channels,
    range: (c) => [range[c], range[channels + c]],
    value: (c, row) => range[c] + (codes[c * rows + row] / top) * (range[channels + c] - range[c]),
  };
}

function cellOf(layer, row) {
  if (layer.grid === null) return [0, 0, 0];
  const { coordinates, rows } = layer.grid;
  return [coordinates[row], coordinates[rows + row], coordinates[2 * rows + row]];
}

// Where a channel is among those of a layer that are kept; the first of them stands for one that is not
const placeOf = (layer, channel) => Math.max(0, layer.kept.indexOf(channel));

const WHOLE = ["norm", "gradient", "importance"]; // columns of a layer's lengths
const WORDS = ["norm of the features", "norm of the gradient", "importance (Grad-CAM)"];

// The colour scale of a layer: {value(row), low, high, only, cut, words}, low < high; only: the value of all rows, or null.  So that a few extreme sites do not
// use up the scale, with many sites it ends at the 1st and the 99th percentile (cut)
function colouring(layer, state) {
  const whole = state.colour !== "channel";
  const values = whole ? layer.lengths : layer.features;
  const c = whole ? WHOLE.indexOf(state.colour) : placeOf(layer, state.channel);
  const words = whole ? WORDS[c] : `channel ${layer.kept[c]}`;
  const value = (row) => values.value(c, row);
  values.ends ??= {};
  let [low, high] = (values.ends[c] ??= colourEnds(values.range(c), value, layer.rows));
  const cut = low > values.range(c)[0] || high < values.range(c)[1];
  const only = low === high ? low : null; // a single value gets the middle colour
  if (only !== null) [low, high] = [low - 0.5, high + 0.5];
  return { value, low, high, only, cut, words };
}

function colourEnds(range, value, rows) {
  if (rows < 100) return range;
  const sorted = Float32Array.from({ length: rows }, (_, row) => value(row)).sort();
  const ends = [sorted[Math.floor(0.01 * (rows - 1))], sorted[Math.ceil(0.99 * (rows - 1))]];
  return ends[0] < ends[1] ? ends : range;
}

// The rulebook entries that produced a row: the offsets that met an active site of the layer before
function entries(layers, index, row) {
  const layer = layers[index];
  const K = layer.offsets.length;
  const found = [];
  for (let k = 0; k < K; k++) {
    const input = layer.neighbours[row * K + k];
    if (input >= 0) found.push({ k, offset: layer.offsets[k], input, share: layer.shares.value(0, row * K + k) });
  }
  return found;
}

// The receptive field of a row: for each layer up to its own, a sorted array of rows; null above
function receptiveField(layers, index, row) {
  const fields = layers.map(() => null);
  fields[index] = [row];
  for (let i = index; i > 0; i--) {
    const layer = layers[i];
    const before = layers[i - 1];
    if (layer.relation === "same") {
      fields[i - 1] = fields[i];
    } else if (layer.relation === "all") {
      fields[i - 1] = Array.from({ length: before.rows }, (_, n) => n);
    } else {
      const K = layer.relation === "copy" ? 1 : layer.offsets.length;
      const lit = new Uint8Array(before.rows);
      for (const m of fields[i]) {
        for (let k = 0; k < K; k++) {
          const n = layer.neighbours[m * K + k];
          if (n >= 0) lit[n] = 1;
        }
      }
      fields[i - 1] = [];
      lit.forEach((on, n) => {
        if (on) fields[i - 1].push(n);
      });
    }
  }
  return fields;
}

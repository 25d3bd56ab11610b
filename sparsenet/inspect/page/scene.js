// Sites as plotly traces: cubes, of which only the exposed faces are drawn, or points.

// The four corners of a cell's face, for each axis and side, ordered so that it faces outwards
const FACES = [0, 1, 2].flatMap((axis) =>
  [0, 1].map((side) => {
    const ring = side
      ? [
          [0, 0],
          [1, 0],
          [1, 1],
          [0, 1],
        ]
      : [
          [0, 0],
          [0, 1],
          [1, 1],
          [1, 0],
        ];
    const step = [0, 0, 0];
    step[axis] = side ? 1 : -1;
    const corners = ring.map(([a, b]) => {
      const corner = [0, 0, 0];
      corner[axis] = side;
      corner[(axis + 1) % 3] = a;
      corner[(axis + 2) % 3] = b;
      return corner;
    });
    return { step, corners };
  }),
);
const EDGES = [
  [0, 0, 0],
  [1, 0, 0],
  [1, 1, 0],
  [0, 1, 0],
  [0, 0, 0],
  [0, 0, 1],
  [1, 0, 1],
  [1, 1, 1],
  [0, 1, 1],
  [0, 0, 1],
  null,
  [1, 0, 0],
  [1, 0, 1],
  null,
  [1, 1, 0],
  [1, 1, 1],
  null,
  [0, 1, 0],
  [0, 1, 1],
];
const FLAT = { ambient: 1, diffuse: 0, specular: 0, roughness: 1, fresnel: 0 }; // colours as in the bar
const LIGHT = { ambient: 0.72, diffuse: 0.45, specular: 0.03, roughness: 0.9, fresnel: 0.05 };
const LIGHT_FROM = { x: -6000, y: -12000, z: 16000 };

const keyOf = (x, y, z) => (x * 65536 + y) * 65536 + z;

// Vertices and triangles of the rows' cells; `owner` is the row of each vertex
function cubes(layer, rows) {
  const held = new Set();
  for (const row of rows) held.add(keyOf(...cellOf(layer, row)));
  const x = [];
  const y = [];
  const z = [];
  const i = [];
  const j = [];
  const k = [];
  const owner = [];
  for (const row of rows) {
    const [a, b, c] = cellOf(layer, row);
    for (const { step, corners } of FACES) {
      if (held.has(keyOf(a + step[0], b + step[1], c + step[2]))) continue;
      const first = x.length;
      for (const corner of corners) {
        x.push(a + corner[0]);
        y.push(b + corner[1]);
        z.push(c + corner[2]);
        owner.push(row);
      }
      i.push(first, first);
      j.push(first + 1, first + 2);
      k.push(first + 2, first + 3);
    }
  }
  const [floats, integers] = [(list) => Float32Array.from(list), (list) => Uint32Array.from(list)];
  return {
    x: floats(x),
    y: floats(y),
    z: floats(z),
    i: integers(i),
    j: integers(j),
    k: integers(k),
    owner: integers(owner),
  };
}

// The outlines of the exposed faces, which flat colours do not show
function outlines({ x, y, z }) {
  const along = (values) => {
    const out = [];
    for (let first = 0; first < values.length; first += 4) {
      out.push(values[first], values[first + 1], values[first + 2], values[first + 3], values[first], null);
    }
    return out;
  };
  return { x: along(x), y: along(y), z: along(z) };
}

function outlinesTrace(layer, colour) {
  const shape = (layer.outlines ??= outlines(shapeOf(layer, null, "cubes")));
  return { ...NO_SITES, ...shape, name: "outlines", line: { color: colour, width: 1 }, opacity: 0.5 };
}

function points(layer, rows) {
  const along = (axis) => Float32Array.from(rows, (row) => cellOf(layer, row)[axis] + 0.5);
  return { x: along(0), y: along(1), z: along(2), owner: Uint32Array.from(rows) };
}

// The shape of some rows, or of all (null), which is cached
function shapeOf(layer, rows, draw) {
  const build = draw === "cubes" ? cubes : points;
  if (rows) return build(layer, rows);
  layer.shapes ??= {};
  return (layer.shapes[draw] ??= build(
    layer,
    Array.from({ length: layer.rows }, (_, row) => row),
  ));
}

// The value of each vertex; those of the last colour are kept, so that a selection leaves the trace as it is
function valuesOf(layer, owner, { value, words }) {
  const kept = layer.values;
  if (kept && kept.owner === owner && kept.words === words) return kept.values;
  const values = Float32Array.from(owner, value);
  layer.values = { owner, words, values };
  return values;
}

// One trace of rows, null for all; colour: a CSS colour, or a result of `colouring`
function sitesTrace(layer, rows, name, colour, { draw = "cubes", opacity = 1, bar = false, size = 4 } = {}) {
  const { owner, ...shape } = shapeOf(layer, rows, draw);
  const trace = { ...shape, name, meta: { owner, rows }, hoverinfo: "skip", showlegend: false };
  const plain = typeof colour === "string";
  const values = plain ? null : valuesOf(layer, owner, colour);
  const scale = plain
    ? { showscale: false }
    : {
        colorscale: "Viridis",
        cmin: colour.low,
        cmax: colour.high,
        showscale: bar,
        ...(bar ? { colorbar: { ...COLOUR_BAR, ...ticks(colour) } } : {}),
      };
  if (draw === "cubes") {
    return {
      ...trace,
      type: "mesh3d",
      opacity,
      flatshading: true,
      lighting: plain ? LIGHT : FLAT,
      lightposition: LIGHT_FROM,
      ...scale,
      ...(plain ? { color: colour } : { intensity: values }),
    };
  }
  const marker = { size, symbol: "square", line: { width: 0 }, color: plain ? colour : values, ...scale };
  return { ...trace, type: "scatter3d", mode: "markers", opacity, marker };
}

const ticks = ({ only }) => (only === null ? {} : { tickmode: "array", tickvals: [only], ticktext: [short(only)] });
const NO_SITES = { type: "scatter3d", mode: "lines", hoverinfo: "skip", showlegend: false, x: [], y: [], z: [] };
const COLOUR_BAR = { thickness: 12, len: 0.8, x: 1, xpad: 4, outlinewidth: 0, tickfont: { size: 11 }, nticks: 6 };

// A frame around the selected cell, so that it is marked by shape, not only by colour; pixels: the height of the picture
function frameTrace(layer, row, colour, pixels) {
  const cell = row === null ? [0, 0, 0] : cellOf(layer, row);
  const side = (0.6 * pixels) / Math.hypot(...boundsOf(layer).map(([low, high]) => high - low)); // of a cell, in pixels
  const width = Math.max(2, Math.min(7, 0.3 * side));
  const out = 0.12 + width / 2 / side; // the line lies around the cell, not over it
  const at = (axis) =>
    row === null ? [] : EDGES.map((corner) => corner && cell[axis] - out + corner[axis] * (1 + 2 * out));
  return { ...NO_SITES, name: "selected site", x: at(0), y: at(1), z: at(2), line: { color: colour, width } };
}

function meshTrace(mesh, colour, opacity) {
  const V = mesh.vertices.length / 3;
  const F = mesh.faces.length / 3;
  mesh.parts ??= [
    ...[0, 1, 2].map((axis) => mesh.vertices.subarray(axis * V, (axis + 1) * V)),
    ...[0, 1, 2].map((corner) => mesh.faces.subarray(corner * F, (corner + 1) * F)),
  ];
  const [x, y, z, i, j, k] = mesh.parts;
  return {
    type: "mesh3d",
    name: "mesh",
    x,
    y,
    z,
    i,
    j,
    k,
    color: colour,
    opacity,
    hoverinfo: "skip",
    flatshading: true,
    lighting: LIGHT,
    lightposition: LIGHT_FROM,
    showlegend: false,
  };
}

// The bounding box of the sites, half a cell wider on each side: [[low, high] of x, y, z]
function boundsOf(layer) {
  if (!layer.rows) return layer.grid.size.map((side) => [0, side]);
  if (!layer.bounds) {
    layer.bounds = [0, 1, 2].map(() => [Infinity, -Infinity]);
    for (let row = 0; row < layer.rows; row++) {
      cellOf(layer, row).forEach((at, axis) => {
        const [low, high] = layer.bounds[axis];
        layer.bounds[axis] = [Math.min(low, at - 0.5), Math.max(high, at + 1.5)];
      });
    }
  }
  return layer.bounds.map((pair) => [...pair]);
}

const FIRST_EYE = { x: 1.16, y: -1.57, z: 0.76 };

function sceneLayout(bounds, camera, colours) {
  const axis = (title, range) => ({
    title: { text: title, font: { size: 12 } },
    range,
    showbackground: false,
    nticks: 5,
    showspikes: false,
    gridcolor: colours.grid,
    zeroline: false,
    tickfont: { size: 10 },
    linecolor: colours.grid,
  });
  const sides = bounds.map(([low, high]) => high - low);
  const ratio = sides.map((side) => (side / Math.hypot(...sides)) * 1.5);
  return {
    margin: { l: 0, r: 0, t: 0, b: 0 },
    paper_bgcolor: "rgba(0,0,0,0)",
    font: { color: colours.ink, family: "system-ui, sans-serif" },
    showlegend: false,
    uirevision: "kept",
    scene: {
      aspectmode: "manual",
      aspectratio: { x: ratio[0], y: ratio[1], z: ratio[2] },
      camera,
      dragmode: "orbit",
      bgcolor: "rgba(0,0,0,0)",
      xaxis: axis("x", bounds[0]),
      yaxis: axis("y", bounds[1]),
      zaxis: axis("z", bounds[2]),
    },
  };
}

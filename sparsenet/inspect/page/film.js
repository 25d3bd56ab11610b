// The strip of all layers: small pictures on 2-D canvases, each a button that selects its layer.

const VIRIDIS = [
  "#440154",
  "#482878",
  "#3e4989",
  "#31688e",
  "#26828e",
  "#1f9e89",
  "#35b779",
  "#6ece58",
  "#b5de2b",
  "#fde725",
];

function makeFilm(layers, choose) {
  const film = document.getElementById("film");
  layers.forEach((layer) => {
    const button = make("button", { type: "button" }, [
      make("canvas", { "aria-hidden": "true" }),
      make("b", {}, `${layer.index} ${layer.name}`),
      make("span", {}, layer.grid ? layer.grid.size.join("×") : "no grid"),
      make("span", {}, layer.grid ? counted(layer.rows, "site") : counted(layer.channels, "value")),
      make("span", { class: "lit" }),
    ]);
    button.addEventListener("click", () => choose(layer.index));
    film.append(make("li", {}, [button]));
  });
}

function drawFilm(layers, state, fields, colours) {
  document.querySelectorAll("#film button").forEach((button, index) => {
    const layer = layers[index];
    const field = fields && fields[index];
    const lit = field ? `${number(field.length)} lit` : "";
    button.querySelector(".lit").textContent = lit;
    drawSites(button.querySelector("canvas"), layer, state, field, colours);
  });
}

function markFilm(index) {
  document.querySelectorAll("#film button").forEach((button, i) => {
    if (i === index) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  });
}

// The cells as squares, the farthest first, from the initial viewpoint of the scenes; side: of the picture, in pixels.
// The picture without the receptive field is kept, so that a selection draws no more than its cells.
function drawSites(canvas, layer, state, field, colours, side = 0) {
  side ||= Math.round(canvas.clientWidth * (window.devicePixelRatio || 1)) || 120;
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  context.globalAlpha = field ? 0.35 : 1;
  context.drawImage(plainPicture(layer, state, side), 0, 0);
  context.globalAlpha = 1;
  if (!field) return;
  const lit = new Uint8Array(layer.rows);
  for (const row of field) lit[row] = 1;
  const colour = packedColour(partsOf(colours.lit), 1);
  context.drawImage(squares(layer, side, (row) => (lit[row] ? colour : 0)), 0, 0);
}

// A canvas with all cells of a layer by their colours
function plainPicture(layer, state, side) {
  const key = [state.colour, state.channel].join();
  const kept = (layer.pictures ??= new Map()).get(side);
  if (kept && kept.key === key) return kept.canvas;
  const { value, low, high } = colouring(layer, state);
  const shades = VIRIDIS.map((colour) => packedColour(partsOf(colour), 1));
  const shade = (row) => shades[Math.max(0, Math.min(9, Math.floor(((value(row) - low) / (high - low)) * 10)))];
  const canvas = squares(layer, side, shade);
  layer.pictures.set(side, { key, canvas });
  return canvas;
}

// A canvas with a square for each cell; colour(row): as in an image's 32-bit words, 0 for none
function squares(layer, side, colour) {
  const { right, height, order, bounds } = seenFrom(layer);
  const scale = side / (Math.max(bounds[1] - bounds[0], bounds[3] - bounds[2]) + 2);
  const half = Math.max(1, Math.min(scale * 1.15, side / 3)) / 2;
  const [x, y] = [(bounds[0] + bounds[1]) / 2, (bounds[2] + bounds[3]) / 2];
  const canvas = make("canvas", { width: side, height: side });
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  const pixels = new Uint32Array(image.data.buffer);
  for (const row of order) {
    const filled = colour(row);
    if (!filled) continue;
    const [across, down] = [side / 2 + (right[row] - x) * scale, side / 2 - (height[row] - y) * scale];
    const [left, end] = [Math.max(0, Math.round(across - half)), Math.min(side, Math.round(across + half))];
    const bottom = Math.min(side, Math.round(down + half));
    for (let line = Math.max(0, Math.round(down - half)); line < bottom; line++) {
      pixels.fill(filled, line * side + left, line * side + end);
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

// Where the cells are in a picture, their rows from the farthest to the nearest, and the bounds of both axes
function seenFrom(layer) {
  if (layer.seen) return layer.seen;
  const far = Math.hypot(FIRST_EYE.x, FIRST_EYE.y);
  const depth = Math.hypot(far, FIRST_EYE.z);
  const [cos, sin] = [-FIRST_EYE.y / far, FIRST_EYE.x / far];
  const [up, down] = [far / depth, FIRST_EYE.z / depth];
  const [right, height, nearness] = [0, 1, 2].map(() => new Float32Array(layer.rows));
  const bounds = [Infinity, -Infinity, Infinity, -Infinity];
  for (let row = 0; row < layer.rows; row++) {
    const [x, y, z] = cellOf(layer, row);
    const back = y * cos - x * sin;
    right[row] = x * cos + y * sin;
    height[row] = z * up + back * down;
    nearness[row] = z * down - back * up;
    bounds[0] = Math.min(bounds[0], right[row]);
    bounds[1] = Math.max(bounds[1], right[row]);
    bounds[2] = Math.min(bounds[2], height[row]);
    bounds[3] = Math.max(bounds[3], height[row]);
  }
  const order = Uint32Array.from({ length: layer.rows }, (_, row) => row).sort((a, b) => nearness[a] - nearness[b]);
  return (layer.seen = { right, height, order, bounds });
}

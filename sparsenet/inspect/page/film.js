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

// The cells as squares, the farthest first, from the initial viewpoint of the scenes; side: of the picture, in pixels
function drawSites(canvas, layer, state, field, colours, side = 0) {
  side ||= Math.round(canvas.clientWidth * (window.devicePixelRatio || 1)) || 120;
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  const far = Math.hypot(FIRST_EYE.x, FIRST_EYE.y);
  const depth = Math.hypot(far, FIRST_EYE.z);
  const [cos, sin] = [-FIRST_EYE.y / far, FIRST_EYE.x / far];
  const [up, down] = [far / depth, FIRST_EYE.z / depth];
  const seen = [];
  const bounds = [Infinity, -Infinity, Infinity, -Infinity];
  for (let row = 0; row < layer.rows; row++) {
    const [x, y, z] = cellOf(layer, row);
    const right = x * cos + y * sin;
    const back = y * cos - x * sin;
    const height = z * up + back * down;
    seen.push({ row, right, height, depth: back * up - z * down });
    bounds[0] = Math.min(bounds[0], right);
    bounds[1] = Math.max(bounds[1], right);
    bounds[2] = Math.min(bounds[2], height);
    bounds[3] = Math.max(bounds[3], height);
  }
  seen.sort((a, b) => b.depth - a.depth);
  const extent = Math.max(bounds[1] - bounds[0], bounds[3] - bounds[2]) + 2;
  const scale = side / extent;
  const middle = [(bounds[0] + bounds[1]) / 2, (bounds[2] + bounds[3]) / 2];
  const width = Math.max(1, Math.min(scale * 1.15, side / 3));
  const colour = colouring(layer, state);
  const span = colour.high - colour.low;
  const draw = ({ right, height }, style) => {
    context.fillStyle = style;
    context.fillRect(
      side / 2 + (right - middle[0]) * scale - width / 2,
      side / 2 - (height - middle[1]) * scale - width / 2,
      width,
      width,
    );
  };
  context.globalAlpha = field ? 0.35 : 1;
  for (const one of seen)
    draw(one, VIRIDIS[Math.max(0, Math.min(9, Math.floor(((colour.value(one.row) - colour.low) / span) * 10)))]);
  context.globalAlpha = 1;
  if (field) {
    const lit = new Set(field);
    for (const one of seen) if (lit.has(one.row)) draw(one, colours.lit);
  }
}

// The shapes that excite a channel most, as small pictures in which the receptive field of the greatest value is marked.

// go: chooses a channel
function listenToTops(go) {
  const channel = document.getElementById("top-channel");
  channel.addEventListener("change", () => go(Number(channel.value)));
  for (const [id, by] of [["top-back", -1], ["top-on", 1]]) {
    document.getElementById(id).addEventListener("click", () => {
      const count = channel.options.length;
      go(Number(channel.options[(channel.selectedIndex + by + count) % count].value));
    });
  }
}

function showTops(tops, layer, channel, colours) {
  const section = document.getElementById("tops");
  section.hidden = !tops;
  if (!tops) return;
  const made = layer.index > 0;
  document.getElementById("tops-made").hidden = !made;
  document.getElementById("tops-title").textContent = made
    ? `Shapes that excite channel ${layer.kept[placeOf(layer, channel)]} of ${layer.name} most`
    : "Shapes that excite a channel most";
  document.getElementById("tops-note").textContent = made
    ? `Of ${counted(tops.count, "shape")}, by the channel's greatest value at any site.`
    : "Choose a layer: the input's channels are not computed.";
  const list = document.getElementById("tops-list");
  const found = made ? tops.layers[layer.index](placeOf(layer, channel)) : [];
  list.replaceChildren(...found.map((one) => topItem(tops.shapes[one.shape], one)));
  if (!made) return;
  const { value, row } = greatest(layer, placeOf(layer, channel));
  document.getElementById("tops-here").textContent = row === null
    ? `${layer.name} has no site here.`
    : `In this shape it is ${short(value)} at most${layer.grid ? `, at cell (${cellOf(layer, row).join(", ")})` : ""}.`;
  document.getElementById("top-select").hidden = row === null;
  fillTopChannels(layer, channel);
  list.querySelectorAll("canvas").forEach((canvas, rank) => drawTop(canvas, tops, found[rank], colours));
}

function topItem({ name, label }, { value, cell }) {
  return make("li", {}, [
    make("canvas", { "aria-hidden": "true" }),
    make("b", {}, label || name),
    ...(label ? [make("span", {}, name)] : []),
    make("span", {}, `${short(value)}${cell ? ` at cell (${cell.join(", ")})` : ""}`),
  ]);
}

function drawTop(canvas, tops, { shape, field }, colours) {
  const picture = tops.shapes[shape];
  const [x, y, z] = picture.size;
  picture.solid ??= solidOf(
    picture.size,
    tops.bits.subarray(picture.begin, picture.begin + Math.ceil((x * y * z) / 8)),
  );
  const mark = { box: field, colour: partsOf(colours.lit) };
  const camera = { ...FIRST_CAMERA, still: true };
  paint(canvas, picture, camera, { colours: { voxel: partsOf(colours.voxel) }, mark });
  outlineBox(canvas, picture.size, camera, field, colours.lit);
}

// The edges of a box of cells over a picture: cells within the shape are marked, too, and by more than a colour
function outlineBox(canvas, size, camera, [low, high], colour) {
  if (high.some((end, axis) => end <= low[axis])) return;
  const { move, origin } = placement(size, camera, canvas.width, canvas.height);
  const context = canvas.getContext("2d");
  context.strokeStyle = colour;
  context.lineWidth = canvas.width / 100;
  context.beginPath();
  for (const axis of [0, 1, 2]) {
    for (const corner of [0, 1, 2, 3]) {
      const ends = [low, high].map((end) => {
        const at = [0, 0, 0];
        at[axis] = end[axis];
        [1, 2].forEach((step, bit) => {
          const other = (axis + step) % 3;
          at[other] = ((corner >> bit) & 1 ? high : low)[other];
        });
        return move(at);
      });
      context.moveTo(origin[0] + ends[0][0], origin[1] + ends[0][1]);
      context.lineTo(origin[0] + ends[1][0], origin[1] + ends[1][1]);
    }
  }
  context.stroke();
}

// The channel's greatest value at the sites of the shape on the page, and its row; null without a site
function greatest(layer, place) {
  let best = { value: -Infinity, row: null };
  for (let row = 0; row < layer.rows; row++) {
    const value = layer.features.value(place, row);
    if (value > best.value) best = { value, row };
  }
  return best;
}

function fillTopChannels(layer, channel) {
  const select = document.getElementById("top-channel");
  document.getElementById("top-layer").textContent = layer.name;
  if (select.dataset.layer !== String(layer.index)) {
    select.replaceChildren(...layer.kept.map((c) => make("option", { value: c }, `${c}`)));
    select.dataset.layer = layer.index;
  }
  select.selectedIndex = placeOf(layer, channel);
}

function topWords(tops, layer, channel) {
  const place = placeOf(layer, channel);
  const [first] = tops.layers[layer.index](place);
  const { name, label } = tops.shapes[first.shape];
  const here = greatest(layer, place);
  return `Channel ${layer.kept[place]} of ${layer.name}: greatest in ${label ? `${label}, ` : ""}${name}, ` +
    `${short(first.value)}${here.row === null ? "" : `; in this shape ${short(here.value)}`}.`;
}

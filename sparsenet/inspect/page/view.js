// The page: the selection and its redrawing.

const at = (id) => document.getElementById(id);
const state = { layer: 0, colour: "norm", channel: 0, draw: "cubes", selected: null, theme: "auto" };
const PLOT = { displayModeBar: false, displaylogo: false, responsive: true, scrollZoom: true };
const SCENES = ["input-plot", "layer-plot"];
const camera = { now: { eye: { ...FIRST_EYE } }, inUse: null }; // of both scenes; the scene being rotated by hand
let model;
let fields = null; // the selected site's receptive field
let again = false; // a selection is not drawn yet
const systemDark = window.matchMedia("(prefers-color-scheme: dark)");

async function start() {
  applyTheme();
  try {
    const code = await (await inflate("plotly")).text();
    document.head.append(make("script", {}, code));
    model = await loadModel();
  } catch (error) {
    at("failure").textContent = `The page cannot be shown: ${error.message}.`;
    at("failure").hidden = false;
    throw error;
  }
  const slider = at("layer");
  slider.max = model.layers.length - 1;
  slider.disabled = false;
  if (!model.mesh) at("show-mesh").closest("label").hidden = true;
  if (model.mesh && model.mesh.shown < model.mesh.faces) {
    at("show-mesh")
      .closest("label")
      .append(` (the largest ${number(model.mesh.shown)} of ${number(model.mesh.faces)} faces)`);
  }
  makeFilm(model.layers, goTo);
  listen();
  await drawAll();
  for (const id of SCENES) listenToPlot(at(id));
  say(`${model.layers.length - 1} layers. Click a cube to see how it was computed.`);
  window.inspector = { state, receptiveField: (layer, row) => receptiveField(model.layers, layer, row) };
  document.documentElement.dataset.ready = "true";
}

// ---- selection ----

function goTo(index) {
  if (index < 0 || index >= model.layers.length || index === state.layer) return;
  change({ layer: index });
  const layer = model.layers[index];
  const lit = fields && fields[index];
  const inField = lit ? `, ${number(lit.length)} of them in the receptive field` : "";
  say(`Layer ${index}, ${layer.name}: ${layerWords(layer)}${inField}.`);
}

function change(by) {
  Object.assign(state, by);
  drawAll();
}

function select(index, row) {
  const layer = model.layers[index];
  if (!Number.isInteger(row) || row < 0 || row >= layer.rows) {
    say(`${layer.name} has rows 0 to ${number(layer.rows - 1)}, not ${row}.`);
    return;
  }
  fields = receptiveField(model.layers, index, row);
  at("row").value = row;
  change({ selected: { layer: index, row }, layer: index });
  const made =
    layer.relation === "filter"
      ? `made by ${entries(model.layers, index, row).length} entries of the rulebook`
      : `${layer.kind}`;
  const cell = layer.grid ? `, cell (${cellOf(layer, row).join(", ")})` : "";
  const field = index ? ` Its field: ${fieldWords(model.layers[0], fields[0])}.` : "";
  say(`Selected row ${number(row)} of ${layer.name}${cell}, ${made}.${field}`);
}

function clear() {
  fields = null;
  change({ selected: null });
  say("Nothing is selected.");
}

function step(by) {
  const rows = model.layers[state.layer].rows;
  const here = state.selected && state.selected.layer === state.layer;
  if (rows) select(state.layer, here ? (state.selected.row + by + rows) % rows : 0);
}

function say(words) {
  at("status").textContent = words;
}

function layerWords(layer) {
  return layer.grid
    ? `grid ${layer.grid.size.join("×")}, ${counted(layer.rows, "site")}, ${counted(layer.channels, "channel")}`
    : `one row of ${counted(layer.channels, "value")}`;
}

// ---- drawing ----

function applyTheme() {
  const dark = state.theme === "dark" || (state.theme === "auto" && systemDark.matches);
  document.documentElement.classList.toggle("dark", dark);
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(
    ["ink", "grid", "lit", "voxel", "mesh", "bar"].map((name) => [
      name,
      style.getPropertyValue(`--${name}`).trim(),
    ]),
  );
}

// Draws the selection; of the selections made meanwhile only the last is drawn next
async function drawAll() {
  const page = document.documentElement.dataset;
  again = true;
  showControls(model.layers[state.layer]);
  if (page.busy) return;
  page.busy = "true";
  try {
    while (again) {
      again = false;
      await drawParts();
    }
  } finally {
    delete page.busy;
  }
  page.drawn = Number(page.drawn || 0) + 1;
}

// Each part is redrawn when its content has changed
async function drawParts() {
  const layer = model.layers[state.layer];
  const colour = colours();
  const dark = document.documentElement.className;
  const chosen = state.selected ? `${state.selected.layer}/${state.selected.row}` : "";
  showSite(model.layers, state, fields, select);
  showHash(layer, frameIn(layer.index), colour);
  if (isNew("film", [state.colour, state.channel, chosen, dark])) drawFilm(model.layers, state, fields, colour);
  markFilm(layer.index);
  await drawScene("layer-plot", layer, layerTraces(layer, colour), colour);
  if (isNew("input", [at("show-mesh").checked, at("show-voxels").checked, chosen, dark])) {
    await drawScene("input-plot", model.layers[0], inputTraces(colour), colour);
  }
}

const shown = {};
function isNew(part, values) {
  const before = shown[part];
  shown[part] = values.join();
  return before !== shown[part];
}

function showControls(layer) {
  at("layer").value = layer.index;
  at("layer").setAttribute("aria-valuetext", `${layer.index}, ${layer.name}`);
  at("layer-name").textContent = `${layer.index} ${layer.name}`;
  at("layer-title").textContent = layer.grid ? `Active sites of ${layer.name}` : `Output of ${layer.name}`;
  at("layer-facts").textContent = layerWords(layer);
  const { words, cut } = colouring(layer, state);
  at("layer-colour").textContent = `colour: ${words}${cut ? ", from its 1st to its 99th percentile" : ""}`;
  at("row").max = layer.rows - 1;
  fillChannels(layer);
  document.querySelectorAll("#layers tbody tr").forEach((row) => {
    if (Number(row.dataset.layer) === layer.index) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
  });
}

function fillChannels(layer) {
  const channel = at("channel");
  channel.disabled = state.colour !== "channel";
  if (channel.dataset.layer !== String(layer.index)) {
    channel.replaceChildren(...layer.kept.map((c) => make("option", { value: c }, `${c}`)));
    channel.dataset.layer = layer.index;
  }
  channel.value = layer.kept.includes(state.channel) ? state.channel : layer.kept[0];
}

const litIn = (index) => (fields && fields[index]) || [];
const frameIn = (index) => (state.selected && state.selected.layer === index ? state.selected.row : null);

function layerTraces(layer, colour) {
  const lit = litIn(layer.index);
  const dim = lit.length && lit.length < layer.rows;
  const draw = state.draw;
  const size = Math.max(2.5, Math.min(14, 300 / Math.cbrt(layer.rows + 1) / 4));
  return [
    sitesTrace(layer, null, "sites", colouring(layer, state), { draw, bar: true, opacity: dim ? 0.16 : 1, size }),
    sitesTrace(layer, lit.length && frameIn(layer.index) === null ? lit : [], "receptive field", colour.lit, {
      draw,
      size: size + 1,
    }),
    frameTrace(layer, frameIn(layer.index), colour.lit),
  ];
}

function inputTraces(colour) {
  const input = model.layers[0];
  const lit = litIn(0);
  const voxels = at("show-voxels").checked;
  const mesh = model.mesh && at("show-mesh").checked;
  const opacity = lit.length ? 0.16 : mesh ? 0.3 : 1;
  return [
    ...(mesh ? [meshTrace(model.mesh, colour.mesh, lit.length ? 0.3 : voxels ? 0.9 : 1)] : []),
    ...(voxels ? [sitesTrace(input, null, "voxels", colour.voxel, { opacity })] : []),
    sitesTrace(input, lit, "receptive field", colour.lit),
    frameTrace(input, frameIn(0), colour.lit),
  ];
}

function drawScene(id, layer, traces, colour) {
  return window.Plotly.react(at(id), traces, sceneLayout(boundsOf(layer), camera.now, colour), PLOT);
}

// The page: the selection and its redrawing.

const at = (id) => document.getElementById(id);
const state = { layer: 0, colour: "norm", channel: 0, draw: null, selected: null, theme: "auto" }; // draw null: as fits
const PLOT = { displayModeBar: false, displaylogo: false, responsive: true, scrollZoom: true };
const SCENES = ["input-plot", "layer-plot"];
const camera = { now: { eye: { ...FIRST_EYE } }, inUse: null }; // of both scenes; the scene being rotated by hand
let model;
let fields = null; // the selected site's receptive field
let again = false; // a selection is not drawn yet
const MOST_OUTLINED = 3_000; // sites of a layer whose cells get outlines
const MOST_CUBES = 50_000; // above this sites are drawn as points unless cubes are asked for
const FEW = 30; // sites
const FLAT_SIDE = 800; // pixels of the pictures for paper, and for browsers without WebGL
const webgl = ["webgl2", "webgl"].some((kind) => document.createElement("canvas").getContext(kind));
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
  document.documentElement.classList.toggle("no-webgl", !webgl);
  makeFilm(model.layers, goTo);
  listen();
  if (model.tops) listenToTops(explain);
  await showAddress();
  if (webgl) for (const id of SCENES) listenToPlot(at(id));
  window.inspector = {
    state,
    receptiveField: (layer, row) => receptiveField(model.layers, layer, row),
    cellOf: (layer, row) => cellOf(model.layers[layer], row),
  };
  document.documentElement.dataset.ready = "true";
}

// ---- selection ----

// What the page's address asks for; without a layer in it the most important site of the last grid
async function showAddress() {
  const { asked, row } = readAddress(model.layers);
  Object.assign(state, { colour: "norm", draw: null, channel: 0 }, asked);
  for (const id of ["colour", "draw"]) if (state[id]) at(id).value = state[id];
  const site = "layer" in asked ? (row === null ? null : [asked.layer, row]) : mostImportant();
  fields = null;
  state.selected = null;
  const words = site ? mark(...site) : `${model.layers.length - 1} layers. ${invitation()}`;
  await drawAll();
  say(words);
}

const invitation = () =>
  webgl
    ? "Click a cell to see how it was computed."
    : "This browser has no WebGL, so the pictures are flat: select a site by its row.";

// In the last layer that is not too small for a picture and in which a site has importance
function mostImportant() {
  const made = model.layers.filter((one) => one.grid && one.relation === "filter" && one.rows > 1);
  const important = made.filter((one) => one.lengths.range(2)[1] > 0);
  const layer = important.findLast((one) => one.rows >= FEW) || important.at(-1) || made.at(-1);
  if (!layer) return null;
  const column = important.length ? 2 : 0; // importance, or the norm
  const value = (row) => layer.lengths.value(column, row);
  const rows = Array.from({ length: layer.rows }, (_, row) => row);
  return [layer.index, rows.reduce((best, row) => (value(row) > value(best) ? row : best), 0)];
}

function goTo(index, quietly = false) {
  if (index < 0 || index >= model.layers.length || index === state.layer) return;
  change({ layer: index });
  const layer = model.layers[index];
  const lit = fields && fields[index];
  const inField = lit ? `, ${number(lit.length)} of them in the receptive field` : "";
  say(`Layer ${index}, ${layer.name}: ${layerWords(layer)}${inField}.`, quietly);
}

function change(by) {
  Object.assign(state, by);
  drawAll();
  writeAddress();
}

function recolour(by) {
  change(by);
  const { words, low, high, only } = colouring(model.layers[state.layer], state);
  say(`Colour: ${words}, ${only === null ? `${short(low)} to ${short(high)}` : `${short(only)} at all sites`}.`);
}

// Shows the shapes that excite another channel of the layer most
function explain(channel) {
  change({ channel });
  say(topWords(model.tops, model.layers[state.layer], channel));
}

function select(index, row) {
  const layer = model.layers[index];
  if (!Number.isInteger(row) || row < 0 || row >= layer.rows) {
    say(`${layer.name} has rows 0 to ${number(layer.rows - 1)}, not ${row}.`);
    return;
  }
  const words = mark(index, row);
  change({});
  say(words);
}

function selectTyped() {
  const typed = at("row").value;
  if (typed === "") say("Type the number of a row, then press Select.");
  else select(state.layer, Number(typed));
}

// Selects without drawing; returns the words to say
function mark(index, row) {
  const layer = model.layers[index];
  fields = receptiveField(model.layers, index, row);
  at("row").value = row;
  Object.assign(state, { selected: { layer: index, row }, layer: index });
  const made =
    layer.relation === "filter"
      ? `made by ${entries(model.layers, index, row).length} entries of the rulebook`
      : `${layer.kind}`;
  const cell = layer.grid ? `, cell (${cellOf(layer, row).join(", ")})` : "";
  const field = index ? ` Its field: ${fieldWords(model.layers[0], fields[0])}.` : "";
  return `Selected row ${number(row)} of ${layer.name}${cell}, ${made}.${field}`;
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

// The next active cell along an axis from the selected one, or the next row of its layer (axis 3)
function walk(axis, way) {
  const { layer: index, row } = state.selected;
  if (index !== state.layer) change({ layer: index });
  if (axis === 3) return step(way);
  const layer = model.layers[index];
  const from = cellOf(layer, row);
  let best = null;
  for (let other = 0; other < layer.rows; other++) {
    const cell = cellOf(layer, other);
    const far = way * (cell[axis] - from[axis]);
    const beside = cell.every((value, i) => i === axis || value === from[i]);
    if (beside && far > 0 && (best === null || far < best.far)) best = { far, other };
  }
  if (best) select(index, best.other);
  else say(`No active cell lies farther along ${way > 0 ? "+" : "−"}${"xyz"[axis]} from (${from.join(", ")}).`);
}

// quietly: not to screen readers, which the control in use has told already
function say(words, quietly = false) {
  at("status").setAttribute("aria-live", quietly ? "off" : "polite");
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
    ["ink", "paper", "grid", "lit", "voxel", "mesh", "bar"].map((name) => [
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
  showSite(model.layers, state, fields, select, walk);
  if (isNew("hash", [layer.index, frameIn(layer.index), dark])) showHash(layer, frameIn(layer.index), colour);
  const coloured = state.colour === "channel" ? state.channel : state.colour;
  if (isNew("film", [coloured, chosen, dark])) drawFilm(model.layers, state, fields, colour);
  markFilm(layer.index);
  if (isNew("tops", [layer.index, state.channel, dark])) showTops(model.tops, layer, state.channel, colour);
  if (isNew("layer", [layer.index, coloured, drawn(layer), chosen, dark])) {
    await drawScene("layer-plot", layer, layerTraces(layer, colour), colour);
  }
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
  at("draw").value = drawn(layer);
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
  channel.selectedIndex = placeOf(layer, state.channel);
}

const drawn = (layer) => state.draw || (layer.rows > MOST_CUBES ? "points" : "cubes");
const litIn = (index) => (fields && fields[index]) || [];
const frameIn = (index) => (state.selected && state.selected.layer === index ? state.selected.row : null);

function layerTraces(layer, colour) {
  const lit = litIn(layer.index);
  const dim = lit.length && lit.length < layer.rows;
  const draw = drawn(layer);
  const size = Math.max(2.5, Math.min(14, 300 / Math.cbrt(layer.rows + 1) / 4));
  return [
    sitesTrace(layer, null, "sites", colouring(layer, state), { draw, bar: true, opacity: dim ? 0.16 : 1, size }),
    sitesTrace(layer, lit.length && frameIn(layer.index) === null ? lit : [], "receptive field", colour.lit, {
      draw,
      size: size + 1,
    }),
    frameTrace(layer, frameIn(layer.index), colour.lit, at("layer-plot").clientHeight),
    outlined(layer, draw, dim) ? outlinesTrace(layer, colour.paper) : { ...NO_SITES, name: "outlines" },
  ];
}

const outlined = (layer, draw, dim) => draw === "cubes" && !dim && layer.rows <= MOST_OUTLINED;

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
    frameTrace(input, frameIn(0), colour.lit, at("input-plot").clientHeight),
  ];
}

async function drawScene(id, layer, traces, colour) {
  if (!webgl) return drawFlat(id, layer, colour);
  await window.Plotly.react(at(id), traces, sceneLayout(boundsOf(layer), fitted(id), colour), PLOT);
  spareScene(at(id));
}

// A picture without WebGL: for paper, and for browsers that have none
function drawFlat(id, layer, colour) {
  drawSites(at(`${id}-flat`), layer, state, litIn(layer.index), colour, FLAT_SIDE);
}

function beforePrint() {
  document.documentElement.classList.remove("dark");
  const colour = colours();
  drawSmall(colour);
  drawFlat("input-plot", model.layers[0], colour);
  drawFlat("layer-plot", model.layers[state.layer], colour);
}

function afterPrint() {
  applyTheme();
  const colour = colours();
  drawSmall(colour);
  if (webgl) return;
  drawFlat("input-plot", model.layers[0], colour);
  drawFlat("layer-plot", model.layers[state.layer], colour);
}

function drawSmall(colour) {
  drawFilm(model.layers, state, fields, colour);
  showTops(model.tops, model.layers[state.layer], state.channel, colour);
}

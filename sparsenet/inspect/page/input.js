// Input: controls, keys, the pointer over the scenes; and the camera.

function listen() {
  at("layer").addEventListener("input", (event) => goTo(Number(event.target.value)));
  at("colour").addEventListener("change", (event) => change({ colour: event.target.value }));
  at("channel").addEventListener("change", (event) => change({ channel: Number(event.target.value) }));
  at("draw").addEventListener("change", (event) => change({ draw: event.target.value }));
  at("theme").addEventListener("change", (event) => {
    state.theme = event.target.value;
    applyTheme();
    drawAll();
  });
  systemDark.addEventListener("change", () => {
    applyTheme();
    drawAll();
  });
  at("choose").addEventListener("click", () => select(state.layer, Number(at("row").value)));
  at("row").addEventListener("keydown", (event) => {
    if (event.key === "Enter") select(state.layer, Number(at("row").value));
  });
  at("clear").addEventListener("click", clear);
  at("view").addEventListener("click", () => turn(FIRST_EYE));
  for (const id of ["show-mesh", "show-voxels"]) at(id).addEventListener("change", drawAll);
  document
    .querySelectorAll("#layers button")
    .forEach((button) => button.addEventListener("click", () => goTo(Number(button.dataset.layer))));
  document.addEventListener("keydown", pageKey);
  for (const id of SCENES) at(id).addEventListener("keydown", sceneKey);
}

function pageKey(event) {
  const typing = /^(INPUT|SELECT)$/.test(event.target.tagName) && !/^(range|checkbox)$/.test(event.target.type);
  if (typing || event.ctrlKey || event.altKey || event.metaKey) return;
  const keys = {
    "[": () => goTo(state.layer - 1),
    "]": () => goTo(state.layer + 1),
    c: clear,
    Escape: clear,
    n: () => step(1),
    p: () => step(-1),
  };
  if (keys[event.key]) keys[event.key]();
}

function sceneKey(event) {
  const by = Math.PI / 18;
  const keys = {
    ArrowLeft: () => orbit(-by, 0),
    ArrowRight: () => orbit(by, 0),
    ArrowUp: () => orbit(0, by),
    ArrowDown: () => orbit(0, -by),
    "+": () => zoom(0.85),
    "=": () => zoom(0.85),
    "-": () => zoom(1 / 0.85),
    0: () => turn(FIRST_EYE),
  };
  if (event.ctrlKey || event.altKey || event.metaKey || !keys[event.key]) return;
  event.preventDefault();
  camera.inUse = null;
  keys[event.key]();
}

// plotly reports the point under the pointer once per frame, and a click only if a frame is drawn while the
// button is down; so a click waits for frames drawn at its position, and uses their report.
function listenToPlot(plot) {
  const told = at(`${plot.id}-under`);
  let under = null; // { layer, row }
  let pressed = null;
  const shownLayer = () => model.layers[plot.id === "layer-plot" ? state.layer : 0];
  const onPlot = (kind, act) => plot.addEventListener(kind, act, true);
  plot.on("plotly_hover", ({ points: [point] }) => {
    const owner = point.data.meta && point.data.meta.owner;
    const layer = shownLayer();
    under = owner ? { layer, row: owner[point.pointNumber] } : null;
    if (!owner) return;
    const { words, value } = colouring(layer, state);
    const cell = cellOf(layer, under.row).join(", ");
    told.textContent = `row ${number(under.row)}, cell (${cell}), ${words} ${short(value(under.row))}`;
  });
  plot.on("plotly_unhover", () => {
    under = null;
    told.textContent = "";
  });
  onPlot("wheel", () => (camera.inUse = plot));
  onPlot("pointerdown", (event) => {
    camera.inUse = plot;
    pressed = [event.clientX, event.clientY];
  });
  onPlot("click", async (event) => {
    if (!pressed || Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) > 4) return; // the scene was rotated
    for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
    if (under && under.layer === shownLayer()) select(under.layer.index, under.row);
  });
  plot.on("plotly_relayout", (event) => {
    const moved = event["scene.camera"]; // also fired after `turn`, so it counts only in the scene in use
    if (moved && camera.inUse === plot) turn(moved.eye, plot, moved);
  });
}

// ---- the camera ----

function turn(eye, from = null, whole = null) {
  camera.now = whole || { eye: { ...eye } };
  for (const id of SCENES) {
    if (at(id) !== from) window.Plotly.relayout(at(id), { "scene.camera": structuredClone(camera.now) });
  }
}

function orbit(sideways, upwards) {
  const { x, y, z } = camera.now.eye;
  const far = Math.hypot(x, y, z);
  const around = Math.atan2(y, x) + sideways;
  const above = Math.max(-1.5, Math.min(1.5, Math.asin(z / far) + upwards));
  turn({
    x: far * Math.cos(above) * Math.cos(around),
    y: far * Math.cos(above) * Math.sin(around),
    z: far * Math.sin(above),
  });
}

function zoom(by) {
  const { x, y, z } = camera.now.eye;
  turn({ x: x * by, y: y * by, z: z * by });
}

// Input: controls, keys, the pointer over the scenes; and the camera.

const A_TAP = { mouse: 4, pen: 8, touch: 12 }; // pixels that a click may wander

function listen() {
  at("layer").addEventListener("input", (event) => goTo(Number(event.target.value), true));
  at("colour").addEventListener("change", (event) => recolour({ colour: event.target.value }));
  at("channel").addEventListener("change", (event) => recolour({ channel: Number(event.target.value) }));
  at("draw").addEventListener("change", (event) => {
    change({ draw: event.target.value });
    say(`Sites are drawn as ${state.draw}.`);
  });
  at("theme").addEventListener("change", (event) => {
    state.theme = event.target.value;
    applyTheme();
    drawAll();
    say(`Theme: ${event.target.selectedOptions[0].textContent}.`);
  });
  systemDark.addEventListener("change", () => {
    applyTheme();
    drawAll();
  });
  at("choose").addEventListener("click", selectTyped);
  at("row").addEventListener("keydown", (event) => {
    if (event.key === "Enter") selectTyped();
  });
  at("clear").addEventListener("click", clear);
  at("top-colour").addEventListener("click", () => {
    at("colour").value = "channel";
    recolour({ colour: "channel", channel: Number(at("top-channel").value) });
  });
  at("top-select").addEventListener("click", () => {
    const layer = model.layers[state.layer];
    select(layer.index, greatest(layer, placeOf(layer, state.channel)).row);
  });
  at("view").addEventListener("click", () => {
    turn(FIRST_EYE);
    say(cameraWords());
  });
  for (const id of ["show-mesh", "show-voxels"]) at(id).addEventListener("change", drawAll);
  document
    .querySelectorAll("#layers button")
    .forEach((button) => button.addEventListener("click", () => goTo(Number(button.dataset.layer))));
  document.addEventListener("keydown", pageKey);
  for (const id of SCENES) at(id).addEventListener("keydown", sceneKey);
  const bar = document.querySelector(".controls");
  const leaveRoom = () => {
    const sticky = getComputedStyle(bar).position === "sticky";
    document.documentElement.style.setProperty("--above", `${sticky ? bar.offsetHeight + 8 : 0}px`);
  };
  leaveRoom();
  let waiting = null;
  window.addEventListener("resize", () => {
    leaveRoom();
    clearTimeout(waiting);
    waiting = setTimeout(() => drawSmall(colours()), 150); // sharp at any zoom
  });
  window.addEventListener("hashchange", showAddress);
  window.addEventListener("beforeprint", beforePrint);
  window.addEventListener("afterprint", afterPrint);
}

function pageKey(event) {
  const typing = /^(INPUT|SELECT)$/.test(event.target.tagName) && !/^(range|checkbox)$/.test(event.target.type);
  if (event.key.length === 1 && !at("letters").checked) return;
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
  say(cameraWords());
}

// A picture takes the wheel and swipes only while it has the focus, so that they scroll the page otherwise
function listenToPlot(plot) {
  const told = at(`${plot.id}-under`);
  const inUse = () => document.activeElement === plot;
  const shownLayer = () => model.layers[plot.id === "layer-plot" ? state.layer : 0];
  const rowUnder = (event) => {
    const ray = rayThrough(plot, event.clientX, event.clientY);
    return ray && firstMet(shownLayer(), ray);
  };
  const onPlot = (kind, act) => plot.addEventListener(kind, act, { capture: true, passive: true });
  let pressed = null;
  let waiting = false;
  onPlot("pointermove", (event) => {
    if (event.pointerType === "touch" || event.buttons || waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      const layer = shownLayer();
      const row = rowUnder(event);
      const { words, value } = colouring(layer, state);
      told.textContent =
        row === null ? "" : `row ${number(row)}, cell (${cellOf(layer, row).join(", ")}), ${words} ${short(value(row))}`;
    });
  });
  onPlot("pointerleave", () => (told.textContent = ""));
  onPlot("wheel", (event) => (inUse() ? (camera.inUse = plot) : event.stopPropagation()));
  for (const kind of ["touchstart", "touchmove"]) onPlot(kind, (event) => inUse() || event.stopPropagation());
  onPlot("pointerdown", (event) => {
    camera.inUse = plot;
    pressed = [event.clientX, event.clientY];
    if (event.pointerType !== "touch") plot.focus({ preventScroll: true });
  });
  onPlot("pointercancel", () => (pressed = null)); // the page scrolls
  onPlot("pointerup", (event) => {
    const far = pressed && Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]);
    if (pressed === null || far > A_TAP[event.pointerType || "mouse"]) return; // the scene was rotated
    plot.focus({ preventScroll: true });
    const row = rowUnder(event);
    if (row !== null) select(shownLayer().index, row);
  });
  plot.on("plotly_relayout", (event) => {
    const moved = event["scene.camera"]; // also fired after `turn`, so it counts only in the scene in use
    if (moved && camera.inUse === plot) turnedTo(moved, plot);
  });
  // plotly turns its scene after a swipe, but tells of it only after the mouse
  onPlot("touchend", () => {
    if (inUse()) requestAnimationFrame(() => turnedTo(plot._fullLayout.scene._scene.getCamera()));
  });
  const turnedTo = (moved, from = null) => {
    const eye = scaled(moved.eye, 1 / fit(plot));
    turn(eye, from, { ...moved, eye });
  };
}

// ---- the camera ----

function turn(eye, from = null, whole = null) {
  camera.now = whole || { eye: { ...eye } };
  if (!webgl) return;
  for (const id of SCENES) {
    if (at(id) !== from) window.Plotly.relayout(at(id), { "scene.camera": fitted(id) });
  }
}

const scaled = ({ x, y, z }, by) => ({ x: x * by, y: y * by, z: z * by });
// How much farther the eye is in a narrow picture, so that the shape fits
const fit = (plot) => Math.max(1, (0.92 * plot.clientHeight) / Math.max(1, plot.clientWidth));
const fitted = (id) => ({ ...structuredClone(camera.now), eye: scaled(camera.now.eye, fit(at(id))) });

function cameraWords() {
  const { x, y, z } = camera.now.eye;
  const degrees = (angle) => Math.round((180 * angle) / Math.PI);
  const far = Math.hypot(x, y, z);
  const wide = Math.hypot(FIRST_EYE.x, FIRST_EYE.y, FIRST_EYE.z) / far;
  return `View from ${degrees(Math.atan2(y, x))}° around z and ${degrees(Math.asin(z / far))}° above, zoom ${short(wide)}.`;
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
  turn(scaled(camera.now.eye, by));
}

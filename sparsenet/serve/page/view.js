// The large picture: turned by dragging, by keys and by buttons.

const view = { camera: { ...FIRST_CAMERA }, shape: null, draw: "voxels", pending: false };
const STEPS = {
  left: () => turnBy(-Math.PI / 12, 0),
  right: () => turnBy(Math.PI / 12, 0),
  up: () => turnBy(0, Math.PI / 18),
  down: () => turnBy(0, -Math.PI / 18),
  in: () => zoomBy(1.25),
  out: () => zoomBy(0.8),
  reset: () => Object.assign(view.camera, FIRST_CAMERA),
};
const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down", "+": "in", "=": "in", "-": "out", 0: "reset" };

function turnBy(turn, height) {
  view.camera.turn += turn;
  view.camera.height = Math.max(-1.5, Math.min(1.5, view.camera.height + height));
}

function zoomBy(factor) {
  view.camera.zoom = Math.max(0.5, Math.min(6, view.camera.zoom * factor));
}

function degrees(angle) {
  return Math.round((angle * 180) / Math.PI);
}

// Draws at the next frame: coarse while it is dragged, fine when it rests
function redraw(moving = false) {
  view.moving = moving;
  if (view.pending) return;
  view.pending = true;
  requestAnimationFrame(() => {
    view.pending = false;
    if (view.shape) paint(at("view"), view.shape, view.camera, { draw: view.draw, fine: view.moving ? 1 : 2, colours: colours() });
    document.documentElement.dataset.drawn = Number(document.documentElement.dataset.drawn || 0) + 1;
  });
}

function step(name) {
  STEPS[name]();
  redraw();
  const { turn, height, zoom } = view.camera;
  const around = ((degrees(turn - FIRST_CAMERA.turn) % 360) + 360) % 360;
  later("view", () => {
    at("view-status").textContent = `Turned by ${around} degrees, seen from ${degrees(height)} degrees above, zoom ${zoom.toFixed(1)}`;
  });
}

function listenToView() {
  const canvas = at("view");
  let from = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    from = { x: event.clientX, y: event.clientY };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!from) return;
    const vertical = event.pointerType === "touch" ? 0 : event.clientY - from.y; // a vertical swipe scrolls the page
    turnBy((from.x - event.clientX) * 0.01, vertical * 0.008);
    from = { x: event.clientX, y: event.clientY };
    redraw(true);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => {
      if (from) redraw();
      from = null;
    });
  }
  canvas.addEventListener("keydown", (event) => {
    const name = KEYS[event.key];
    if (!name || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    step(name);
  });
  document.querySelectorAll("[data-view]").forEach((button) => {
    button.addEventListener("click", () => step(button.dataset.view));
  });
  document.querySelectorAll("[name=draw]").forEach((radio) => {
    radio.addEventListener("change", () => {
      view.draw = radio.value;
      redraw();
    });
  });
  new ResizeObserver(() => redraw()).observe(canvas);
}

// Shows a shape that the source gave, from the first point of view
function look({ voxels, mesh }, name) {
  view.shape = { solid: voxelsOf(voxels), mesh: meshOf(mesh) };
  view.camera = { ...FIRST_CAMERA };
  at("draw").hidden = !mesh;
  const cells = `${number(voxels.count)} ${voxels.count === 1 ? "voxel" : "voxels"}`;
  at("view").setAttribute("aria-label", `${name}, ${cells}`);
  redraw();
}

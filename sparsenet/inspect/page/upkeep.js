// Work that plotly does again with each change of a scene, left out: it uploads every trace, and draws all of them once
// more to find what is under the pointer, which this page finds itself (picking.js).  A plotly whose insides are named
// otherwise does that work; nothing else changes.

function spareScene(plot) {
  const scene = plot._fullLayout && plot._fullLayout.scene && plot._fullLayout.scene._scene;
  if (!scene || !scene.glplot || !scene.traces) return;
  for (const object of scene.glplot.objects || []) object.drawPick = () => {};
  for (const trace of Object.values(scene.traces)) if (!trace.spared) spareTrace(scene, trace);
}

// Of a trace that differs from the one before by its opacity alone, only that is changed
function spareTrace(scene, trace) {
  const update = trace.update;
  let before = contentOf(scene, trace.data);
  trace.spared = true;
  trace.update = (data) => {
    const now = contentOf(scene, data);
    const drawn = trace.mesh || trace.scatterPlot;
    if (drawn && now.every((value, place) => value === before[place])) {
      trace.data = data;
      drawn.opacity = data.opacity;
      drawn.hasAlpha = data.opacity < 1;
    } else {
      update.call(trace, data);
    }
    before = now;
  };
}

// What a trace shows apart from its opacity: arrays by themselves, so that their elements need not be compared
function contentOf({ dataScale }, { type, mode, x, i, color, intensity, cmin, cmax, lighting, marker = {} }) {
  const points = [marker.color, marker.size, marker.cmin, marker.cmax];
  return [type, mode, x, i, color, intensity, cmin, cmax, lighting && lighting.ambient, ...points, ...dataScale];
}

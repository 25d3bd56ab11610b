// The cell under the pointer: a ray from the camera through a pixel, and the first cell that it meets.

// The ray through a point of the window in a scene's coordinates: {from, along}, or null before the scene is drawn
function rayThrough(plot, clientX, clientY) {
  const scene = plot._fullLayout && plot._fullLayout.scene && plot._fullLayout.scene._scene;
  const matrices = scene && scene.glplot && scene.glplot.cameraParams;
  if (!matrices) return null;
  const box = plot.getBoundingClientRect();
  const x = (2 * (clientX - box.left)) / box.width - 1;
  const y = 1 - (2 * (clientY - box.top)) / box.height;
  const back = inverse(product(matrices.projection, product(matrices.view, matrices.model)));
  const at = (depth) => {
    const [a, b, c, w] = applied(back, [x, y, depth, 1]);
    return [a, b, c].map((value, axis) => value / w / scene.dataScale[axis]);
  };
  const [from, to] = [at(-1), at(1)];
  return { from, along: to.map((value, axis) => value - from[axis]) };
}

// The row of the first cell of a layer that a ray meets, or null
function firstMet(layer, { from, along }) {
  let nearest = Infinity;
  let found = null;
  const { rows } = layer;
  const cells = layer.grid ? layer.grid.coordinates : [0, 0, 0];
  for (let row = 0; row < rows; row++) {
    let enter = 0;
    let leave = nearest;
    for (let axis = 0; axis < 3 && enter <= leave; axis++) {
      const cell = cells[axis * rows + row];
      const one = (cell - from[axis]) / along[axis];
      const other = (cell + 1 - from[axis]) / along[axis];
      enter = Math.max(enter, Math.min(one, other));
      leave = Math.min(leave, Math.max(one, other));
    }
    if (enter <= leave && enter < nearest) [nearest, found] = [enter, row];
  }
  return found;
}

// 4x4 matrices are arrays of 16 numbers, column after column, as WebGL has them
function product(a, b) {
  return Array.from({ length: 16 }, (_, i) =>
    [0, 1, 2, 3].reduce((sum, k) => sum + a[4 * k + (i % 4)] * b[4 * Math.floor(i / 4) + k], 0),
  );
}

function applied(a, vector) {
  return [0, 1, 2, 3].map((row) => vector.reduce((sum, value, k) => sum + a[4 * k + row] * value, 0));
}

// By elimination, with the largest pivot of each column
function inverse(a) {
  const rows = [0, 1, 2, 3].map((r) => [
    ...[0, 1, 2, 3].map((c) => a[4 * c + r]),
    ...[0, 1, 2, 3].map((c) => Number(c === r)),
  ]);
  for (let c = 0; c < 4; c++) {
    const best = [...rows.keys()].slice(c).reduce((p, r) => (Math.abs(rows[r][c]) > Math.abs(rows[p][c]) ? r : p), c);
    [rows[c], rows[best]] = [rows[best], rows[c]];
    rows[c] = rows[c].map((value) => value / rows[c][c]);
    for (let r = 0; r < 4; r++) {
      if (r !== c) rows[r] = rows[r].map((value, k) => value - rows[r][c] * rows[c][k]);
    }
  }
  return Array.from({ length: 16 }, (_, i) => rows[i % 4][4 + Math.floor(i / 4)]);
}

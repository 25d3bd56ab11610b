// Draws voxels and triangles into pixels, nearest first by a depth for each pixel: no WebGL, the same in every browser.

const FIRST_CAMERA = { turn: -0.95, height: 0.4, zoom: 1 };

// Orthographic: a point p of the shape is at (p . right, p . up), and p . toward tells how near it is
function axesOf(camera) {
  const [c, s] = [Math.cos(camera.turn), Math.sin(camera.turn)];
  const [ch, sh] = [Math.cos(camera.height), Math.sin(camera.height)];
  return { right: [-s, c, 0], up: [-c * sh, -s * sh, ch], toward: [c * ch, s * ch, sh] };
}

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

// The light comes from the camera's upper left
function brightness(normal, { right, up, toward }) {
  const light = 0.62 * dot(normal, up) + 0.6 * dot(normal, toward) - 0.5 * dot(normal, right);
  return 0.6 + 0.52 * Math.max(0, light);
}

function packedColour(rgb, factor) {
  const [r, g, b] = rgb.map((part) => Math.max(0, Math.min(255, Math.round(part * factor))));
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

class Raster {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.image = new ImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.depth = new Float32Array(width * height).fill(-Infinity);
  }

  // A parallelogram at (x, y, z) with sides a and b, each [x, y, z]; `rim`: share of a side that is drawn as its edge
  parallelogram(x, y, z, a, b, fill, edge, rim) {
    const det = a[0] * b[1] - a[1] * b[0];
    if (Math.abs(det) < 1e-9) return;
    const { width, height, depth, pixels } = this;
    const left = Math.max(0, Math.floor(x + Math.min(0, a[0], b[0], a[0] + b[0])));
    const right = Math.min(width - 1, Math.ceil(x + Math.max(0, a[0], b[0], a[0] + b[0])));
    const top = Math.max(0, Math.floor(y + Math.min(0, a[1], b[1], a[1] + b[1])));
    const bottom = Math.min(height - 1, Math.ceil(y + Math.max(0, a[1], b[1], a[1] + b[1])));
    const [ux, uy, vx, vy] = [b[1] / det, -b[0] / det, -a[1] / det, a[0] / det];
    for (let row = top; row <= bottom; row += 1) {
      for (let column = left; column <= right; column += 1) {
        const dx = column + 0.5 - x;
        const dy = row + 0.5 - y;
        const u = dx * ux + dy * uy;
        const v = dx * vx + dy * vy;
        if (u < -1e-6 || v < -1e-6 || u > 1.000001 || v > 1.000001) continue;
        const near = z + u * a[2] + v * b[2];
        const at = row * width + column;
        if (near <= depth[at]) continue;
        depth[at] = near;
        pixels[at] = u < rim || v < rim || u > 1 - rim || v > 1 - rim ? edge : fill;
      }
    }
  }

  triangle(x0, y0, z0, x1, y1, z1, x2, y2, z2, fill) {
    const det = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0);
    if (Math.abs(det) < 1e-9) return;
    const { width, height, depth, pixels } = this;
    const left = Math.max(0, Math.floor(Math.min(x0, x1, x2)));
    const right = Math.min(width - 1, Math.ceil(Math.max(x0, x1, x2)));
    const top = Math.max(0, Math.floor(Math.min(y0, y1, y2)));
    const bottom = Math.min(height - 1, Math.ceil(Math.max(y0, y1, y2)));
    for (let row = top; row <= bottom; row += 1) {
      for (let column = left; column <= right; column += 1) {
        const dx = column + 0.5 - x0;
        const dy = row + 0.5 - y0;
        const u = (dx * (y2 - y0) - dy * (x2 - x0)) / det;
        const v = (dy * (x1 - x0) - dx * (y1 - y0)) / det;
        if (u < -1e-6 || v < -1e-6 || u + v > 1.000001) continue;
        const near = z0 + u * (z1 - z0) + v * (z2 - z0);
        const at = row * width + column;
        if (near <= depth[at]) continue;
        depth[at] = near;
        pixels[at] = fill;
      }
    }
  }
}

// How cells are placed in a picture: pixels of a cell, and the pixel of a point.  A picture that stands still is filled
// by the shape; one that can be turned has room for all of its directions.
function placement(size, camera, width, height) {
  const axes = axesOf(camera);
  const extent = (axis) => size.reduce((sum, side, k) => sum + side * Math.abs(axis[k]), 0);
  const room = camera.still ? Math.max(extent(axes.right), extent(axes.up)) : Math.hypot(...size);
  const scale = (0.94 * camera.zoom * Math.min(width, height)) / Math.max(1, room);
  const move = (vector) => [dot(vector, axes.right) * scale, -dot(vector, axes.up) * scale, dot(vector, axes.toward)];
  const centre = move(size.map((side) => side / 2));
  return { axes, scale, move, origin: [width / 2 - centre[0], height / 2 - centre[1], -centre[2]] };
}

const isWithin = ([low, high], cell) => cell.every((value, axis) => low[axis] <= value && value < high[axis]);

// mark: { box: [first cell, one after the last], colour }, cells that get another colour, or null
function drawSolid(raster, solid, camera, rgb, mark) {
  const { axes, scale, move, origin } = placement(solid.size, camera, raster.width, raster.height);
  const rim = scale > 5 ? Math.min(0.12, 0.8 / scale) : 0;
  DIRECTIONS.forEach(({ axis, side, along }, d) => {
    const normal = [0, 0, 0];
    normal[axis] = side;
    if (dot(normal, axes.toward) <= 1e-6) return;
    const unit = (k) => [0, 1, 2].map((i) => (i === k ? 1 : 0));
    const [a, b] = along.map((k) => move(unit(k)));
    const light = brightness(normal, axes);
    const shades = (colour, full) => [...Array(10).keys()].map((n) => packedColour(colour, light * (full - 0.035 * n)));
    const plain = { fills: shades(rgb, 1), edges: shades(rgb, 0.86) };
    const marked = mark && { fills: shades(mark.colour, 1), edges: shades(mark.colour, 0.86) };
    const cells = solid.cells[d];
    const shift = side > 0 ? move(unit(axis)) : [0, 0, 0];
    const [mx, my, mz] = [0, 1, 2].map((k) => move(unit(k)));
    for (let i = 0, n = 0; i < cells.length; i += 3, n += 1) {
      const [x, y, z] = [cells[i], cells[i + 1], cells[i + 2]];
      const { fills, edges } = mark && isWithin(mark.box, [x, y, z]) ? marked : plain;
      raster.parallelogram(
        origin[0] + shift[0] + x * mx[0] + y * my[0] + z * mz[0],
        origin[1] + shift[1] + x * mx[1] + y * my[1] + z * mz[1],
        origin[2] + shift[2] + x * mx[2] + y * my[2] + z * mz[2],
        a, b, fills[solid.around[d][n]], edges[solid.around[d][n]], rim,
      );
    }
  });
}

function drawMesh(raster, mesh, size, camera, rgb) {
  const { axes, scale, origin } = placement(size, camera, raster.width, raster.height);
  const { vertices, faces } = mesh;
  const count = vertices.length / 3;
  const placed = new Float32Array(vertices.length);
  for (let i = 0; i < count; i += 1) {
    const p = [vertices[3 * i], vertices[3 * i + 1], vertices[3 * i + 2]];
    placed[3 * i] = origin[0] + dot(p, axes.right) * scale;
    placed[3 * i + 1] = origin[1] - dot(p, axes.up) * scale;
    placed[3 * i + 2] = origin[2] + dot(p, axes.toward);
  }
  for (let f = 0; f < faces.length; f += 3) {
    const [i, j, k] = [3 * faces[f], 3 * faces[f + 1], 3 * faces[f + 2]];
    const e = [0, 1, 2].map((n) => vertices[j + n] - vertices[i + n]);
    const g = [0, 1, 2].map((n) => vertices[k + n] - vertices[i + n]);
    const normal = [e[1] * g[2] - e[2] * g[1], e[2] * g[0] - e[0] * g[2], e[0] * g[1] - e[1] * g[0]];
    const length = Math.hypot(...normal);
    if (!length) continue;
    const flip = dot(normal, axes.toward) < 0 ? -length : length; // both sides are drawn
    raster.triangle(
      placed[i], placed[i + 1], placed[i + 2], placed[j], placed[j + 1], placed[j + 2],
      placed[k], placed[k + 1], placed[k + 2],
      packedColour(rgb, brightness(normal.map((part) => part / flip), axes)),
    );
  }
}

// Fills a canvas: voxels, a mesh, or the mesh within its voxels, drawn finer than the screen and scaled down
function paint(canvas, shape, camera, { draw = "voxels", fine = 2, colours, mark = null }) {
  const screen = Math.min(window.devicePixelRatio || 1, 3);
  const width = Math.max(1, Math.round(canvas.clientWidth * screen));
  const height = Math.max(1, Math.round(canvas.clientHeight * screen));
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  const layer = (opacity, drawing) => {
    const raster = new Raster(width * fine, height * fine);
    drawing(raster);
    const buffer = document.createElement("canvas");
    buffer.width = raster.width;
    buffer.height = raster.height;
    buffer.getContext("2d").putImageData(raster.image, 0, 0);
    context.globalAlpha = opacity;
    context.imageSmoothingQuality = "high";
    context.drawImage(buffer, 0, 0, width, height);
    context.globalAlpha = 1;
  };
  const mesh = shape.mesh && draw !== "voxels";
  if (mesh) layer(1, (raster) => drawMesh(raster, shape.mesh, shape.solid.size, camera, colours.mesh));
  if (!mesh || draw === "both") {
    layer(mesh ? 0.32 : 1, (raster) => drawSolid(raster, shape.solid, camera, colours.voxel, mark));
  }
}

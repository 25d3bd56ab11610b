// Voxels as the faces that are seen from outside.

// Outward normals of a cell's faces, and the two axes along each face
const DIRECTIONS = [
  { axis: 0, side: -1, along: [1, 2] },
  { axis: 0, side: 1, along: [1, 2] },
  { axis: 1, side: -1, along: [2, 0] },
  { axis: 1, side: 1, along: [2, 0] },
  { axis: 2, side: -1, along: [0, 1] },
  { axis: 2, side: 1, along: [0, 1] },
];

// The faces of cells that no other cell covers, by direction: their cells (x, y, z, ...), and how many of the eight cells
// around each face's front are filled, which shade it.  bytes: the cells of a box, row-major, the first in the highest bit
function solidOf(size, bytes) {
  const [sx, sy, sz] = size;
  const filled = (x, y, z) => {
    if (x < 0 || y < 0 || z < 0 || x >= sx || y >= sy || z >= sz) return 0;
    const cell = (x * sy + y) * sz + z;
    return (bytes[cell >> 3] >> (7 - (cell & 7))) & 1;
  };
  const cells = DIRECTIONS.map(() => []);
  const around = DIRECTIONS.map(() => []);
  for (let x = 0; x < sx; x += 1) {
    for (let y = 0; y < sy; y += 1) {
      for (let z = 0; z < sz; z += 1) {
        if (!filled(x, y, z)) continue;
        DIRECTIONS.forEach(({ axis, side, along }, d) => {
          const front = [x, y, z];
          front[axis] += side;
          if (filled(...front)) return;
          let count = 0;
          for (let i = -1; i <= 1; i += 1) {
            for (let j = -1; j <= 1; j += 1) {
              const near = [...front];
              near[along[0]] += i;
              near[along[1]] += j;
              count += filled(...near);
            }
          }
          cells[d].push(x, y, z);
          around[d].push(count);
        });
      }
    }
  }
  return { size, cells, around };
}

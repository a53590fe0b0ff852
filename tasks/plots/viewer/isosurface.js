// Surfaces of equal density by surface nets (Gibson 1998): one vertex in each cell of eight voxels that the surface
// crosses, at the mean of the crossings of its edges. The viewer's own contouring puts vertices on voxels only.
"use strict";

// values: densities with x fastest; size: voxels along [z, y, x]; keep: 0 where a cell is left out, or null.
// Returns vertices and outward normals as {x, y, z} in voxels, and faces as vertex numbers, three to a triangle.
function isosurface(values, size, level, keep) {
  const [nz, ny, nx] = size, dy = nx, dz = nx * ny;
  const corner = [0, 1, dy, dy + 1, dz, dz + 1, dz + dy, dz + dy + 1];
  const edges = [];
  for (let a = 0; a < 8; a++) for (const bit of [1, 2, 4]) if (!(a & bit)) edges.push([a, a | bit]);
  const vertexOf = new Int32Array(values.length).fill(-1);
  const vertices = [], normals = [], faces = [], v = new Float64Array(8);
  for (let z = 0; z < nz - 1; z++) for (let y = 0; y < ny - 1; y++) {
    for (let x = 0, i = z * dz + y * dy; x < nx - 1; x++, i++) {
      let inside = 0;
      for (let c = 0; c < 8; c++) if (values[i + corner[c]] > level) inside |= 1 << c;
      if (inside === 0 || inside === 255 || (keep && !keep[i])) continue;
      for (let c = 0; c < 8; c++) v[c] = values[i + corner[c]] - level;
      let n = 0, px = 0, py = 0, pz = 0;
      for (const [a, b] of edges) {
        if ((v[a] > 0) === (v[b] > 0)) continue;
        const t = v[a] / (v[a] - v[b]), along = b ^ a;
        px += along === 1 ? t : a & 1;
        py += along === 2 ? t : (a >> 1) & 1;
        pz += along === 4 ? t : (a >> 2) & 1;
        n++;
      }
      px /= n; py /= n; pz /= n;
      let gx = 0, gy = 0, gz = 0;
      for (let c = 0; c < 8; c++) {
        const wx = c & 1 ? px : 1 - px, wy = c & 2 ? py : 1 - py, wz = c & 4 ? pz : 1 - pz;
        gx += (c & 1 ? v[c] : -v[c]) * wy * wz;
        gy += (c & 2 ? v[c] : -v[c]) * wx * wz;
        gz += (c & 4 ? v[c] : -v[c]) * wx * wy;
      }
      const length = -Math.hypot(gx, gy, gz) || -1;
      vertexOf[i] = vertices.length;
      vertices.push({x: x + px, y: y + py, z: z + pz});
      normals.push({x: gx / length, y: gy / length, z: gz / length});
    }
  }
  const quad = (a, b, c, d, turn) => {
    if (a < 0 || b < 0 || c < 0 || d < 0) return;
    if (turn) faces.push(a, c, b, a, d, c); else faces.push(a, b, c, a, c, d);
  };
  for (let z = 0; z < nz - 1; z++) for (let y = 0; y < ny - 1; y++) {
    for (let x = 0, i = z * dz + y * dy; x < nx - 1; x++, i++) {
      if (vertexOf[i] < 0) continue;
      const here = values[i] > level, m = vertexOf;
      if (y && z && here !== values[i + 1] > level) quad(m[i], m[i - dy], m[i - dy - dz], m[i - dz], !here);
      if (x && z && here !== values[i + dy] > level) quad(m[i], m[i - dz], m[i - dz - 1], m[i - 1], !here);
      if (x && y && here !== values[i + dz] > level) quad(m[i], m[i - 1], m[i - 1 - dy], m[i - dy], !here);
    }
  }
  return {vertices, normals, faces};
}

// 1 for the cells (named by their first voxel) within a radius of any place, else 0; both in voxels.
function cellsNear(places, radius, size) {
  const [nz, ny, nx] = size, near = new Uint8Array(nz * ny * nx);
  for (const p of places) {
    const from = (c) => Math.max(0, Math.ceil(c - 0.5 - radius)), to = (c, n) => Math.min(n - 1, c - 0.5 + radius);
    for (let z = from(p.z); z <= to(p.z, nz); z++) for (let y = from(p.y); y <= to(p.y, ny); y++) {
      const rest = radius ** 2 - (z + 0.5 - p.z) ** 2 - (y + 0.5 - p.y) ** 2;
      if (rest < 0) continue;
      const half = Math.sqrt(rest), row = (z * ny + y) * nx;
      const first = Math.max(0, Math.ceil(p.x - 0.5 - half)), last = Math.min(nx - 1, Math.floor(p.x - 0.5 + half));
      if (first <= last) near.fill(1, row + first, row + last + 1);
    }
  }
  return near;
}

// Arrays out of the text that a server or this file holds.

function bytesOf(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i += 1) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

// Little-endian, as every browser of today reads typed arrays
const floatsOf = (text) => new Float32Array(bytesOf(text).buffer);
const wholesOf = (text) => new Uint32Array(bytesOf(text).buffer);
const voxelsOf = (packed) => solidOf(packed.size, bytesOf(packed.bits));

function meshOf(packed) {
  return packed && { vertices: floatsOf(packed.vertices), faces: wholesOf(packed.faces) };
}

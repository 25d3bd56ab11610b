// Where the page has its shapes from: a server, or this file itself.

const ATTEMPTS = 4; // of a picture, when the server is busy

class Failure extends Error {}

async function ask(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("the server does not answer: is it still running?");
  }
  const kind = response.headers.get("Content-Type") || "";
  if (!kind.startsWith("application/json")) throw new Failure(`the server refused it (${response.status})`);
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Failure(answer.error), { status: response.status });
  return answer;
}

// Runs some of many tasks at a time, in order
function taskQueue(limit) {
  const waiting = [];
  let running = 0;
  const next = () => {
    if (running >= limit || !waiting.length) return;
    running += 1;
    const { task, done, failed } = waiting.shift();
    task()
      .then(done, failed)
      .finally(() => {
        running -= 1;
        next();
      });
  };
  return (task) =>
    new Promise((done, failed) => {
      waiting.push({ task, done, failed });
      next();
    });
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

function serverSource() {
  const patient = async (address) => {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await ask(address);
      } catch (error) {
        if (error.status !== 503 || attempt === ATTEMPTS) throw error;
        await pause(1000 * attempt);
      }
    }
  };
  return {
    gallery: () => ask("/api/gallery"),
    voxels: (row) => patient(`/api/voxels/${row}`),
    shape: (row) => patient(`/api/shape/${row}`),
    similar: async (row) => rankingOf(await ask(`/api/similar/${row}`)),
    search: async (file, up, signal) => {
      const headers = { "Content-Type": "application/octet-stream" };
      const answer = await ask(`/api/search?up=${up}`, { method: "POST", headers, body: file, signal });
      return { ...answer, ranking: rankingOf(answer) };
    },
  };
}

function rankingOf({ order, distances }) {
  return { order: wholesOf(order), distances: floatsOf(distances) };
}

// The page as one file: its voxels, and the distances of all pairs
function fileSource(held) {
  const pairs = floatsOf(held.distances);
  const count = held.names.length;
  return {
    gallery: async () => held,
    voxels: async (row) => held.voxels[row],
    shape: async (row) => ({ voxels: held.voxels[row], mesh: null, dropped: 0 }),
    similar: async (row) => {
      const own = pairs.subarray(row * count, (row + 1) * count);
      const order = Uint32Array.from(own.keys()).sort((a, b) => own[a] - own[b] || a - b);
      return { order, distances: Float32Array.from(order, (other) => own[other]) };
    },
    search: null,
  };
}

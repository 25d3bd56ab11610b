// The panels beside the pictures: the selected site and its rulebook, the hash table.

function make(tag, attributes = {}, content = []) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...(Array.isArray(content) ? content : [content]));
  return element;
}

// Red, green and blue, 0 to 255, of a colour such as #1f5fa8
const partsOf = (colour) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
const number = (value) => value.toLocaleString("en-US");
const counted = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;
const short = (value) =>
  value === 0
    ? "0"
    : Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3
      ? value.toExponential(2)
      : Number(value.toPrecision(4)).toString();
const bar = (share) =>
  make("td", { class: "bar" }, [make("span", { style: `width:${(100 * share).toFixed(1)}%` })]);

function table(heads, rows, caption) {
  const head = heads.map(([text, kind, unseen]) =>
    make("th", { scope: "col", class: kind || "" }, unseen ? make("span", { class: "hidden" }, text) : text),
  );
  return make("table", {}, [
    make("caption", { class: "hidden" }, caption),
    make("thead", {}, [make("tr", {}, head)]),
    make("tbody", {}, rows),
  ]);
}

// choose(layer, row) selects; walk(axis, way) selects the next cell along an axis, or the next row (axis 3)
function showSite(layers, state, fields, choose, walk) {
  const box = document.getElementById("site");
  if (!state.selected) {
    box.replaceChildren(
      make("p", { class: "note" }, "None. Click a cell, or type its row above and press Select."),
    );
    return;
  }
  const { layer: index, row } = state.selected;
  const layer = layers[index];
  const colour = colouring(layer, state);
  const facts = [
    ["layer", `${index} ${layer.name}`],
    ["row", `${number(row)} of ${number(layer.rows)}`],
  ];
  if (layer.grid) facts.push(["cell", `(${cellOf(layer, row).join(", ")})`]);
  facts.push(["norm", short(layer.lengths.value(0, row))], ["gradient", short(layer.lengths.value(1, row))]);
  if (layer.grid) facts.push(["importance", short(layer.lengths.value(2, row))]);
  if (state.colour === "channel") facts.push([colour.words, short(colour.value(row))]);
  if (layer.grid) facts.push(["hash table", `slot ${number(layer.grid.slotOf[row])}, ${probesOf(layer, row)}`]);
  if (index) facts.push(["field", fieldWords(layers[0], fields[0])]);
  const list = make(
    "dl",
    {},
    facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]),
  );
  const focused = box.contains(document.activeElement) && document.activeElement;
  box.replaceChildren(list, stepButtons(layer, walk), ...made(layers, index, row, choose));
  if (focused) ((focused.id && document.getElementById(focused.id)) || box).focus(); // the keyboard goes on from here
}

function stepButtons(layer, walk) {
  const steps = [["previous row", 3, -1], ["next row", 3, 1]];
  if (layer.grid) {
    ["x", "y", "z"].forEach((name, axis) => steps.push([`− ${name}`, axis, -1], [`+ ${name}`, axis, 1]));
  }
  const buttons = steps.map(([words, axis, way]) => {
    const button = make("button", { type: "button", id: `step-${axis}-${way > 0 ? "on" : "back"}` }, words);
    if (axis < 3) button.title = `the next active cell along ${"xyz"[axis]}`;
    button.addEventListener("click", () => walk(axis, way));
    return button;
  });
  return make("div", { class: "steps", role: "group", "aria-label": "Go to another site" }, buttons);
}

function probesOf(layer, row) {
  const probes = layer.grid.probes[layer.grid.slotOf[row]];
  return probes === 1 ? "found at its home slot" : `found at probe ${probes}`;
}

function fieldWords(input, rows) {
  if (!rows.length) return "no input site";
  const sides = [0, 1, 2].map((axis) => {
    let low = Infinity;
    let high = -Infinity;
    for (const row of rows) {
      const at = cellOf(input, row)[axis];
      low = Math.min(low, at);
      high = Math.max(high, at);
    }
    return high - low + 1;
  });
  return `${number(rows.length)} of ${number(input.rows)} input sites, within ${sides.join("×")} cells`;
}

// How the row was computed, in words and as rulebook entries
function made(layers, index, row, choose) {
  const layer = layers[index];
  const before = layers[index - 1];
  const heading = make("h3", {}, "How it was computed");
  const go = (input) => {
    const button = make(
      "button",
      { type: "button", "aria-label": `select row ${number(input)} of layer ${index - 1}` },
      number(input),
    );
    button.addEventListener("click", () => choose(index - 1, input));
    return button;
  };
  if (layer.relation === "none")
    return [heading, make("p", { class: "note" }, "The voxelization: the shape intersects this cell.")];
  if (layer.relation === "all")
    return [heading, make("p", { class: "note" }, `${layer.settings} over all cells of ${before.name}.`)];
  if (layer.relation === "same") {
    return [
      heading,
      make("p", { class: "note" }, [
        `${layer.kind.replaceAll("_", " ")} ${layer.settings}, of row `,
        go(row),
        ` of ${before.name}, channel by channel.`,
      ]),
    ];
  }
  if (layer.relation === "copy") {
    return [
      heading,
      make("p", { class: "note" }, [
        `${layer.kind} ${layer.settings}, a copy of row `,
        go(layer.neighbours[row]),
        ` of ${before.name}.`,
      ]),
    ];
  }
  const found = entries(layers, index, row);
  const weighted = layer.weight !== null;
  const pool = layer.kind === "max_pool";
  const K = layer.offsets.length;
  const most = Math.max(...found.map((entry) => entry.share), 1e-30);
  const total = found.reduce((sum, entry) => sum + Math.round(entry.share), 0);
  const rows = found.map((entry) =>
    make("tr", {}, [
      make("td", { class: "number" }, `${entry.k}`),
      make("td", {}, `(${entry.offset.join(", ")})`),
      make("td", { class: "number" }, [go(entry.input)]),
      make("td", {}, `(${cellOf(before, entry.input).join(", ")})`),
      ...(weighted ? [make("td", {}, `W[${entry.k}]`)] : []),
      bar(entry.share / most),
      make("td", { class: "number" }, pool ? `${Math.round(entry.share)}` : short(entry.share)),
    ]),
  );
  const heads = [
    ["k", "number"],
    ["offset"],
    ["input row", "number"],
    ["cell"],
    ...(weighted ? [["weight"]] : []),
    [pool ? "channels won" : "adds", "bar"],
    [pool ? "their number" : "its norm", "number", true],
  ];
  const rest = K - found.length;
  const words = [`${found.length} of the filter's ${K} offsets met an active site of ${before.name}`];
  const inactive = layer.background ? "which hold the background" : "which are skipped";
  const won = pool && layer.background ? ` and won ${layer.channels - total} channels` : "";
  if (rest) words.push(`${rest} met inactive cells, ${inactive}${won}`);
  const input = layer.background ? "(input − background)" : "input";
  const explained = pool
    ? `Each of the ${layer.channels} channels takes its largest value.`
    : weighted
      ? `W[k] is ${layer.name}.weight[k], ${layer.weight.join("×")}; "adds" is the norm of ${input} · W[k].`
      : `"adds" is the norm of ${input}${layer.kind === "average_pool" ? ", divided by the number of cells" : ""}.`;
  return [
    heading,
    make("p", { class: "note" }, `${words.join("; ")}. ${explained}`),
    table(heads, rows, "Entries of the rulebook"),
  ];
}

function showHash(layer, selected, colours) {
  const box = document.getElementById("hash");
  const grid = layer.grid;
  if (!grid) {
    box.replaceChildren(make("p", { class: "note" }, `${layer.name} has no grid, and no hash table.`));
    return;
  }
  const { histogram, slots, rows } = grid;
  const mean = histogram.reduce((sum, count, i) => sum + count * (i + 1), 0) / (rows || 1);
  const most = Math.max(...histogram, 1);
  const shown = histogram.slice(0, 7);
  const rest = histogram.slice(7).reduce((a, b) => a + b, 0);
  if (rest) shown.push(rest);
  const lines = shown.map((count, i) =>
    make("tr", {}, [
      make(
        "th",
        { scope: "row", class: "number" },
        rest && i === shown.length - 1 ? `${i + 1} to ${histogram.length}` : `${i + 1}`,
      ),
      bar(count / most),
      make("td", { class: "number" }, number(count)),
      make("td", { class: "number" }, `${((100 * count) / (rows || 1)).toFixed(1)}%`),
    ]),
  );
  const canvas = make("canvas", {
    id: "slots",
    role: "img",
    "aria-label": `The table's ${number(slots)} slots: empty, held by a key at its home, or held after more probes`,
  });
  box.replaceChildren(
    make(
      "p",
      { class: "note" },
      `${layer.name}: ${number(rows)} keys in ${number(slots)} slots, load ${((100 * rows) / slots).toFixed(1)}%; ` +
        `a key is found after ${mean.toFixed(2)} probes on average, ${histogram.length} at most.`,
    ),
    table(
      [
        ["probes", "number"],
        ["keys", "bar"],
        ["their number", "number", true],
        ["share", "number"],
      ],
      lines,
      "Keys by how many probes find them",
    ),
    canvas,
    make("p", { class: "note" }, [
      make("span", { class: "key", style: `background:${colours.bar}` }),
      " at its home slot ",
      make("span", { class: "key", style: `background:${colours.lit}` }),
      " after more probes",
    ]),
  );
  const width = Math.min(256, slots);
  const height = Math.ceil(slots / width);
  const context = canvas.getContext("2d");
  canvas.width = width;
  canvas.height = height;
  canvas.style.height = `${Math.min(120, Math.max(12, height * 2))}px`;
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const [home, farther] = [colours.bar, colours.lit].map((colour) => packedColour(partsOf(colour), 1));
  for (let slot = 0; slot < slots; slot++) {
    if (grid.probes[slot]) pixels[slot] = grid.probes[slot] === 1 ? home : farther;
  }
  context.putImageData(image, 0, 0);
  if (selected !== null) {
    context.fillStyle = colours.ink;
    context.fillRect((grid.slotOf[selected] % width) - 1, Math.floor(grid.slotOf[selected] / width) - 1, 3, 3);
  }
}

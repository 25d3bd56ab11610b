// The list of shapes: filtered, a page of cards at a time.

const PAGE = 24;
const list = { ranking: null, query: null, classOnly: "", within: null, shown: PAGE };
const pictures = new Map(); // row -> a promise of its solid
const drawing = taskQueue(4);

function passing() {
  const { labels } = gallery;
  const found = [];
  const count = list.ranking ? list.ranking.order.length : gallery.names.length;
  for (let rank = 0; rank < count; rank += 1) {
    const row = list.ranking ? list.ranking.order[rank] : rank;
    const distance = list.ranking ? list.ranking.distances[rank] : null;
    if (list.within !== null && distance > list.within) break;
    if (row === list.query || (list.classOnly !== "" && labels[row] !== Number(list.classOnly))) continue;
    found.push({ row, distance });
  }
  return found;
}

function showResults(words) {
  const found = passing();
  const cards = at("cards");
  const shown = found.slice(0, list.shown);
  cards.replaceChildren(...shown.map(card));
  cards.querySelectorAll("canvas").forEach((canvas) => drawing(() => drawCard(canvas)));
  at("more").hidden = shown.length === found.length;
  const all = list.ranking ? list.ranking.order.length - (list.query === null ? 0 : 1) : gallery.names.length;
  const part = found.length === all ? "" : ` of ${number(all)}`;
  later("status", () => {
    at("status").textContent = `${words || ""}${number(found.length)}${part} ${all === 1 ? "shape" : "shapes"}` +
      `${found.length > shown.length ? `, the first ${number(shown.length)} shown` : ""}.`;
  });
}

function className(row) {
  const label = gallery.labels[row];
  if (label < 0) return "";
  const sure = gallery.probabilities ? ` ${percent(gallery.probabilities[row])}` : "";
  return `${gallery.classes[label]}${sure}`;
}

// A name that breaks between its folders, the file in bold
function nameParts(name) {
  const parts = name.split("/");
  const last = make("b", {}, parts.pop());
  return [...parts.flatMap((part) => [`${part}/`, make("wbr", {})]), last];
}

function card({ row, distance }) {
  const open = make("a", { class: "open", href: `#shape=${row}` });
  if (gallery.pictures) open.append(make("canvas", { "data-row": row, "aria-hidden": "true" }));
  open.append(make("span", { class: "title" }, ...nameParts(gallery.names[row])));
  if (className(row)) open.append(make("span", {}, className(row)));
  if (distance !== null) open.append(make("span", {}, `distance ${distance.toFixed(4)}`));
  const item = make("li", {}, open);
  if (gallery.inspector) {
    const link = make("a", { class: "inspect", href: `/inspect/${row}`, target: "_blank", rel: "noopener" }, "inspect");
    link.append(make("span", { class: "hidden" }, ` ${gallery.names[row]} (new tab)`));
    item.append(link);
  }
  return item;
}

function solidOfRow(row) {
  if (!pictures.has(row)) {
    const coming = source.voxels(row).then(voxelsOf);
    pictures.set(row, coming);
    coming.catch(() => pictures.delete(row));
  }
  return pictures.get(row);
}

async function drawCard(canvas) {
  if (!canvas.isConnected) return; // other results have come
  try {
    const solid = await solidOfRow(Number(canvas.dataset.row));
    if (canvas.isConnected) paint(canvas, { solid }, { ...FIRST_CAMERA, still: true }, { colours: colours() });
    canvas.dataset.ready = "true";
  } catch (error) {
    canvas.replaceWith(make("span", {}, `no picture: ${error.message}`));
  }
}

function redrawCards() {
  document.querySelectorAll("#cards canvas[data-ready]").forEach(drawCard);
}

function fillClasses() {
  const counts = new Map();
  gallery.labels.forEach((label) => counts.set(label, (counts.get(label) || 0) + 1));
  const known = [...counts.keys()].filter((label) => label >= 0);
  known.sort((a, b) => gallery.classes[a].localeCompare(gallery.classes[b]));
  const options = known.map((label) => make("option", { value: label }, `${gallery.classes[label]} (${number(counts.get(label))})`));
  if (counts.has(-1)) options.push(make("option", { value: -1 }, `unknown (${number(counts.get(-1))})`));
  at("class").replaceChildren(make("option", { value: "" }, "all"), ...options);
  at("class-filter").hidden = !known.length;
}

function withinChanged() {
  const slider = at("within");
  const most = list.ranking.distances[list.ranking.distances.length - 1];
  const share = Number(slider.value) / 100;
  list.within = share < 1 ? most * share * share : null; // finer among the near ones
  const text = list.within === null ? "any" : list.within.toFixed(3);
  at("within-text").textContent = text;
  slider.setAttribute("aria-valuetext", text);
}

function listenToResults() {
  at("class").addEventListener("change", () => {
    list.classOnly = at("class").value;
    list.shown = PAGE;
    showResults();
  });
  at("within").addEventListener("input", () => {
    withinChanged();
    list.shown = PAGE;
    showResults();
  });
  at("more").addEventListener("click", () => {
    const first = list.shown;
    list.shown += PAGE;
    showResults();
    at("cards").children[first]?.querySelector("a").focus();
  });
}

// The page: what is searched for, its address, and the user's mesh.

const at = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");
const percent = (value) => `${(100 * value).toFixed(1)}%`;
const systemDark = window.matchMedia("(prefers-color-scheme: dark)");
const timers = {};
let source = null;
let gallery = null;
let mine = null; // the user's mesh: what the server said of it
let asked = 0; // the latest question: answers to earlier ones are dropped
let sending = null;
let opened = false; // the page has shown something: from now on the focus follows

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
  element.append(...children);
  return element;
}

// Says the last of many changes, once they pause
function later(name, action) {
  clearTimeout(timers[name]);
  timers[name] = setTimeout(action, 350);
}

async function start() {
  startTheme();
  listenToView();
  listenToResults();
  const held = at("held");
  source = held ? fileSource(JSON.parse(held.textContent)) : serverSource();
  try {
    gallery = await source.gallery();
  } catch (error) {
    fail(error);
    return;
  }
  describeGallery();
  fillClasses();
  if (source.search) listenToFiles();
  window.addEventListener("hashchange", route);
  await route();
  opened = true;
  document.documentElement.dataset.ready = "true";
}

function describeGallery() {
  const count = gallery.names.length;
  at("title").textContent = `Shape search: ${gallery.title}`;
  const lost = gallery.left_out ? `, ${number(gallery.left_out)} could not be read` : "";
  const sure = gallery.probabilities ? " Classes are the model's." : "";
  at("summary").textContent = `${number(count)} ${count === 1 ? "shape" : "shapes"}${lost}, by ${gallery.model}.${sure}`;
  at("drop").hidden = !source.search;
  if (!source.search) at("query-title").textContent = "One shape";
  at("no-upload").hidden = Boolean(source.search);
  at("without-pictures").hidden = gallery.pictures;
  at("without-pictures").textContent = `${gallery.without_pictures} They are listed without pictures.`;
  if (source.search) {
    const size = Math.round(gallery.upload / 2 ** 20);
    at("drop-note").textContent = `or drop one anywhere: OFF, OBJ, PLY, STL, GLB or glTF in one file, also .gz, up to ${size} MiB.`;
  }
}

// ---- what is shown: all shapes, one of them (#shape=12), or the user's (#mine) ----

async function route() {
  const hash = location.hash.slice(1);
  const row = /^shape=(\d+)$/.exec(hash);
  asked += 1;
  const question = asked;
  at("failure").hidden = true;
  list.shown = PAGE;
  try {
    if (row && Number(row[1]) < gallery.names.length) await showShape(Number(row[1]), question);
    else if (hash === "mine" && mine) showMine();
    else showAll();
  } catch (error) {
    if (question === asked) fail(error);
  }
}

function showAll() {
  at("shown").hidden = true;
  view.shape = null;
  rank(null, null, "Shapes", "");
}

async function showShape(row, question) {
  const name = gallery.names[row];
  const [ranking, shape] = await Promise.all([
    source.similar(row),
    gallery.pictures ? source.shape(row).catch((error) => error) : null,
  ]);
  if (question !== asked) return;
  const probability = gallery.probabilities?.[row];
  const known = gallery.labels[row] >= 0;
  describe(name, shape instanceof Error ? null : shape, {
    classes: known && probability !== undefined ? [[gallery.classes[gallery.labels[row]], probability]] : [],
    facts: known && probability === undefined ? [["class", gallery.classes[gallery.labels[row]]]] : [],
    inspect: gallery.inspector ? `/inspect/${row}` : null,
  });
  rank(ranking, row, `Most similar to ${name}`, "Most similar first: ");
  if (shape instanceof Error) fail(shape);
  if (opened) at("name").focus();
}

function showMine() {
  describe(mine.name, mine, {
    classes: mine.classes,
    facts: [
      ["format", `${mine.format}, ${mine.up} up`],
    ],
    inspect: mine.inspect,
  });
  rank(mine.ranking, null, `Most similar to ${mine.name}`, "Most similar first: ");
  at("name").focus();
}

function rank(ranking, query, title, words) {
  Object.assign(list, { ranking, query, within: null });
  at("results-title").textContent = title;
  at("home").hidden = !ranking;
  at("within-filter").hidden = !ranking;
  at("within").value = 100;
  if (ranking) withinChanged();
  document.title = ranking ? `${title} - ${gallery.title}` : gallery.title;
  showResults(words);
}

function describe(name, shape, { classes, facts, inspect }) {
  at("shown").hidden = false;
  at("name").textContent = name;
  at("stage").hidden = !shape;
  view.shape = null;
  if (shape) look(shape, name);
  at("classes").hidden = !classes.length;
  document.querySelector("#classes tbody").replaceChildren(...classes.map(([label, probability]) => {
    const bar = make("i", {});
    bar.style.width = `${100 * probability}%`;
    const cell = make("td", {}, make("div", { class: "bar" }, make("span", {}, bar), make("span", {}, percent(probability))));
    return make("tr", {}, make("th", { scope: "row" }, label), cell);
  }));
  const rows = [...facts];
  if (shape?.faces) rows.push(["mesh", `${number(shape.vertices)} vertices, ${number(shape.faces)} triangles`]);
  if (shape?.mesh?.simplified) rows.push(["drawn", "with fewer triangles"]);
  if (shape) rows.push(["voxels", `${number(shape.voxels.count)} in a box of ${shape.voxels.size.join(" × ")}`]);
  if (shape?.dropped) rows.push(["left out", `${number(shape.dropped)} voxels outside the network's grid`]);
  at("facts").replaceChildren(...rows.flatMap(([term, text]) => [make("dt", {}, term), make("dd", {}, text)]));
  at("inspect-shown").hidden = !inspect;
  if (inspect) document.querySelector("#inspect-shown a").href = inspect;
}

// name : of the user's file, if it is about that
function fail({ message }, name) {
  at("failure").textContent = name ? `${name}: ${message}.` : `${message[0].toUpperCase()}${message.slice(1)}.`;
  at("failure").hidden = false;
}

// ---- the user's mesh ----

async function search(file) {
  at("failure").hidden = true;
  if (file.size > gallery.upload) {
    fail(new Failure(`it has ${number(file.size)} bytes, the limit is ${number(gallery.upload)}`), file.name);
    return;
  }
  sending?.abort();
  const own = new AbortController();
  sending = own;
  at("query").setAttribute("aria-busy", "true");
  clearTimeout(timers.status);
  at("status").textContent = `Searching with ${file.name} …`;
  try {
    const answer = await source.search(file, at("up").value, own.signal);
    mine = { ...answer, file, name: file.name };
    if (location.hash === "#mine") await route();
    else location.hash = "mine";
  } catch (error) {
    if (error.name === "AbortError") return;
    at("status").textContent = "";
    fail(error, file.name);
  } finally {
    if (sending === own) at("query").removeAttribute("aria-busy");
  }
}

function listenToFiles() {
  const file = at("file");
  file.addEventListener("change", () => {
    if (file.files.length) search(file.files[0]);
    file.value = "";
  });
  at("up").addEventListener("change", () => {
    if (mine && location.hash === "#mine") search(mine.file);
  });
  const holdsFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  window.addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    at("curtain").hidden = false;
  });
  window.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) at("curtain").hidden = true;
  });
  window.addEventListener("drop", (event) => {
    at("curtain").hidden = true;
    if (!holdsFiles(event)) return;
    event.preventDefault();
    if (event.dataTransfer.files.length) search(event.dataTransfer.files[0]);
  });
}

// ---- colours ----

function startTheme() {
  const theme = at("theme");
  try {
    theme.value = localStorage.getItem("theme") || "auto";
  } catch {
    theme.value = "auto"; // a page from disk may have no storage
  }
  const apply = () => {
    const dark = theme.value === "dark" || (theme.value === "auto" && systemDark.matches);
    document.documentElement.classList.toggle("dark", dark);
    redraw();
    redrawCards();
  };
  theme.addEventListener("change", () => {
    try {
      localStorage.setItem("theme", theme.value);
    } catch {
      // it holds until the page is closed
    }
    apply();
  });
  systemDark.addEventListener("change", apply);
  apply();
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const parts = (name) => [1, 3, 5].map((i) => parseInt(style.getPropertyValue(name).trim().slice(i, i + 2), 16));
  return { voxel: parts("--voxel"), mesh: parts("--mesh") };
}

// What is shown, in the page's address (#layer=4&row=12&colour=channel&channel=5), so that a link shows the same.

function readAddress(layers) {
  const given = new URLSearchParams(location.hash.slice(1));
  const whole = (name, end) => {
    const value = given.get(name);
    return value !== null && /^\d+$/.test(value) && Number(value) < end ? Number(value) : null;
  };
  const layer = whole("layer", layers.length);
  const known = (id, value) => [...at(id).options].some((option) => option.value === value);
  const asked = {};
  for (const id of ["colour", "draw"]) if (known(id, given.get(id))) asked[id] = given.get(id);
  if (layer !== null) asked.layer = layer;
  const channel = whole("channel", Infinity);
  if (channel !== null) asked.channel = channel;
  return { asked, row: layer === null ? null : whole("row", layers[layer].rows) };
}

function writeAddress() {
  const { selected, layer, colour, channel, draw } = state;
  const words = new URLSearchParams({ layer });
  if (selected && selected.layer === layer) words.set("row", selected.row);
  if (colour !== "norm") words.set("colour", colour);
  if (colour === "channel" || (model.tops && channel)) words.set("channel", channel);
  if (draw) words.set("draw", draw);
  try {
    history.replaceState(null, "", `#${words}`);
  } catch {
    // a sandboxed frame may not change its address
  }
}

/* Elements and words. Everything that comes from the run enters the page as text, never as markup. */

const summary = JSON.parse(document.getElementById("summary").textContent);
const byId = (id) => document.getElementById(id);

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

const el = (tag, properties, ...children) => fill(document.createElement(tag), properties, children);
const svg = (tag, properties, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);

function clock(seconds) {
  const tenths = Math.floor(seconds * 10 + 1e-6);
  const hours = Math.floor(tenths / 36000), minutes = Math.floor(tenths / 600) % 60;
  const whole = Math.floor(tenths / 10) % 60, part = tenths % 10;
  const head = hours ? `${hours}:${String(minutes).padStart(2, "0")}` : `${minutes}`;
  return `${head}:${String(whole).padStart(2, "0")}${part ? "." + part : ""}`;
}

const stretch = (start, end) => (end > start ? `${clock(start)}–${clock(end)}` : clock(start));
const score = (p) => (p === null ? "–" : p.toFixed(2));
const plural = (count, one, many) => `${count.toLocaleString("en")} ${count === 1 ? one : many || one + "s"}`;
const words = (name) => name.replaceAll("_", " ");
const trackName = (track) => (track === null ? "Faces" : `Track ${track}`);

const high = summary.threshold_high, low = summary.threshold_low;
const side = (p) => (p >= high ? "fake" : p < low ? "real" : "uncertain");

function verdictChip(verdict, status) {
  const kind = verdict || "none";
  return el("span", { class: `chip ${kind}` }, verdict || words(status));
}

/* A path as its folders, which may be cut, and its name, which may not. */
function pathName(id) {
  const cut = id.replace(/\/+$/, "").lastIndexOf("/") + 1;
  return el("span", { class: "path", title: id },
    cut ? el("span", { class: "folder" }, el("bdi", { dir: "ltr" }, id.slice(0, cut))) : null, el("bdi", { class: "file" }, id.slice(cut)));
}

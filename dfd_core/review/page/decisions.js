/* What the reviewer decides: kept in this browser, and downloaded as a manifest. */

const storageKey = `dfd-review/${summary.id}`;
const LABELS = ["real", "fake", "unsure"];
let decisions = {};
let kept = true;
let unsaved = false;

function readDecisions() {
  try {
    const text = window.localStorage.getItem(storageKey);
    window.localStorage.setItem(storageKey, text || "{}");
    decisions = text ? JSON.parse(text) : {};
  } catch {
    kept = false;
  }
}

function writeDecisions() {
  unsaved = !kept;
  try {
    if (kept) window.localStorage.setItem(storageKey, JSON.stringify(decisions));
  } catch {
    kept = false;
    unsaved = true;
  }
  showKept();
}

function showKept() {
  byId("decided").textContent = Object.keys(decisions).length;
  byId("notes").replaceChildren(...(kept ? [] : [el("p", { class: "note" },
    "This browser keeps nothing for this page. Download your decisions before you close it; they can be loaded again.")]));
}

function decide(video, change) {
  const before = decisions[video.id] || { decision: "", comment: "" };
  const after = { ...before, ...change, at: new Date().toISOString().slice(0, 19) + "Z" };
  if (after.decision || after.comment) decisions[video.id] = after;
  else delete decisions[video.id];
  writeDecisions();
  document.dispatchEvent(new CustomEvent("decided", { detail: video }));
}

const decisionOf = (video) => decisions[video.id] || { decision: "", comment: "" };

const cell = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

/* The columns of a manifest: the decision is its label, and the manifest's own columns stay what they were. */
function manifestText() {
  const own = summary.own.filter((name) => !["label", "decision", "comment", "decided_at"].includes(name));
  const rows = [["uri", "video_id", "label", "decision", "comment", "decided_at", ...own]];
  for (const video of videos) {
    const found = decisions[video.id];
    if (!found) continue;
    const label = found.decision === "real" || found.decision === "fake" ? found.decision : "";
    const values = own.map((name) => video.own[summary.own.indexOf(name)] ?? "");
    rows.push([video.uri, video.id, label, found.decision, found.comment, found.at, ...values]);
  }
  return rows.map((row) => row.map(cell).join(",") + "\r\n").join("");
}

function downloadDecisions() {
  const address = URL.createObjectURL(new Blob([manifestText()], { type: "text/csv" }));
  const link = el("a", { href: address, download: "decisions.csv" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
  unsaved = false;
}

function parseCsv(text) {
  const rows = [[]];
  const pattern = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/gy;
  for (let match; pattern.lastIndex < text.length && (match = pattern.exec(text)); ) {
    rows.at(-1).push(match[1] === undefined ? match[2] : match[1].replaceAll('""', '"'));
    if (match[3] !== ",") rows.push([]);
  }
  return rows.filter((row) => row.length > 1);
}

async function loadDecisions(file) {
  const [names = [], ...rows] = parseCsv((await file.text()).replace(/^\uFEFF/, ""));
  const known = new Set(videos.map((video) => video.id));
  for (const row of rows) {
    const found = Object.fromEntries(names.map((name, place) => [name, row[place] ?? ""]));
    const decision = LABELS.includes(found.decision) ? found.decision : "";
    if (!known.has(found.video_id) || !(decision || found.comment)) continue;
    decisions[found.video_id] = { decision, comment: found.comment || "", at: found.decided_at || "" };
  }
  writeDecisions();
  document.dispatchEvent(new CustomEvent("decided", { detail: null }));
}

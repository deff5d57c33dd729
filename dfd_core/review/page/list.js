/* The list: filters, order, pages of rows, and the row that the keys act on. */

const rowsPerPage = 50;
const filters = { verdict: "", status: "", reason: "", label: "", decision: "", column: "", value: "", text: "", order: "suspicion" };
let shown = [];
let page = 0;
let current = 0;
const labelPlace = summary.own.indexOf("label");

const orders = {
  suspicion: ["most suspicious first", (a, b) => a.rank - b.rank],
  score: ["highest score first", (a, b) => (b.p ?? -1) - (a.p ?? -1) || a.rank - b.rank],
  unsure: ["nearest to the threshold first", (a, b) => distance(a) - distance(b) || a.rank - b.rank],
  spans: ["most suspicious stretches first", (a, b) => b.num_spans - a.num_spans || a.rank - b.rank],
  name: ["by name", (a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)],
};
const distance = (video) => (video.p === null ? 2 : Math.abs(video.p - (low + high) / 2));

const matches = {
  verdict: (video, value) => (video.verdict || "none") === value,
  status: (video, value) => video.status === value,
  reason: (video, value) => (video.reason || video.error || "") === value,
  label: (video, value) => (video.own[labelPlace] || "none") === value,
  decision: (video, value) => (decisionOf(video).decision || "none") === value,
  value: (video, value) => (video.own[Number(filters.column)] || "none") === value,
  text: (video, value) => value.toLowerCase().split(/\s+/).every((word) => video.search.includes(word)),
};

function applyFilters() {
  const active = Object.entries(filters).filter(([name, value]) => value !== "" && matches[name]);
  shown = videos.filter((video) => active.every(([name, value]) => matches[name](video, value)));
  if (filters.order !== "suspicion") shown.sort(orders[filters.order][1]);
  page = 0;
  current = 0;
  showRows();
}

function counted(values) {
  const counts = new Map();
  for (const value of values) if (value) counts.set(value, (counts.get(value) || 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, 200);
}

function choice(name, title, options, change) {
  const pick = el("select", { "aria-label": title, id: `filter-${name}`, onchange: () => {
    filters[name] = pick.value;
    if (change) change(pick.value);
    applyFilters();
  } }, options.map(([value, text]) => el("option", { value }, text)));
  pick.value = filters[name];
  return el("label", { class: "choice" }, el("span", {}, title), pick);
}

const withCounts = (all, values) => [["", all], ...counted(values).map(([value, count]) => [value, `${words(value)} (${count.toLocaleString("en")})`])];

function verdictTabs() {
  const tabs = [["", "all", videos.length], ...["fake", "uncertain", "real", "none"].map((kind) => [kind, kind === "none" ? "no score" : kind, summary.verdicts[kind] || 0])];
  const box = el("div", { class: "tabs", role: "group", "aria-label": "Verdict" }, tabs.map(([value, text, count]) =>
    el("button", { type: "button", class: `tab ${value}`, "data-verdict": value, "aria-pressed": String(filters.verdict === value), onclick: () => {
      filters.verdict = value;
      for (const tab of box.children) tab.setAttribute("aria-pressed", String(tab.dataset.verdict === value));
      applyFilters();
    } }, el("b", {}, count.toLocaleString("en")), text)));
  return box;
}

function filterBar() {
  const search = el("input", { type: "search", id: "search", placeholder: "Search names and columns  ( / )", "aria-label": "Search", oninput: () => {
    filters.text = search.value.trim();
    applyFilters();
  } });
  const own = summary.own.map((name, place) => [String(place), name]).filter(([, name]) => name !== "label");
  const values = el("span");
  const showValues = (column) => {
    filters.value = "";
    values.replaceChildren(...(column === "" ? [] : [choice("value", "Value", withCounts("any", videos.map((video) => video.own[Number(column)] || "none")))]));
  };
  const reasons = counted(videos.map((video) => video.reason || video.error));
  const more = el("details", { class: "more" }, el("summary", {}, "Filters"), el("div", { class: "choices" },
    choice("status", "Status", withCounts("any", videos.map((video) => video.status))),
    reasons.length ? choice("reason", "Reason", withCounts("any", videos.map((video) => video.reason || video.error))) : null,
    labelPlace >= 0 ? choice("label", "Label", withCounts("any", videos.map((video) => video.own[labelPlace] || "none"))) : null,
    choice("decision", "Decision", [["", "any"], ["none", "not decided"], ...LABELS.map((name) => [name, name])]),
    own.length ? choice("column", "Column", [["", "–"], ...own], showValues) : null, values));
  more.open = window.innerWidth > 700;
  return el("div", { class: "filters" }, search, more);
}

function when(video) {
  if (video.spans.length) {
    const [track, start, end] = video.spans[0];
    const more = video.num_spans - 1;
    const throughout = end - start > 0.9 * video.end;
    return el("span", {}, el("b", {}, throughout ? "throughout" : stretch(start, end)), video.num_tracks > 1 ? ` · ${trackName(track)} of ${video.num_tracks}` : "", more ? ` · ${more} more` : "");
  }
  return el("span", { class: "soft" }, video.reason ? words(video.reason) : video.error ? words(video.error) : video.num_tracks > 1 ? `${video.num_tracks} tracks` : "");
}

function row(video, place) {
  const faces = el("span", { class: "faces" });
  loadFaces(video.rank).then((small) => faces.replaceChildren(...small.map((face) => el("img", { src: jpeg(face), alt: "", width: 48, height: 48 })))).catch(() => {});
  const decision = decisionOf(video);
  const label = labelPlace >= 0 ? video.own[labelPlace] : null;
  return el("li", { class: "row", "data-rank": video.rank, "aria-current": place === current ? "true" : null, onclick: () => { location.hash = `video/${video.rank}`; } },
    faces,
    el("span", { class: "name" }, el("a", { href: `#video/${video.rank}` }, pathName(video.id)),
      el("small", {}, label ? `label ${label}` : null, decision.comment ? el("bdi", {}, ` “${decision.comment}”`) : null)),
    el("span", { class: "verdict" }, verdictChip(video.verdict, video.status), video.p === null ? null : el("b", { class: "p" }, score(video.p))),
    el("span", { class: "time" }, video.strip.replaceAll("-", "") ? stripChart(video) : null, el("small", { class: "when" }, when(video))),
    el("span", { class: "decision" }, decision.decision ? el("span", { class: `chip ${decision.decision}` }, decision.decision) : null));
}

function showRows() {
  const first = page * rowsPerPage, last = Math.min(first + rowsPerPage, shown.length);
  byId("rows").replaceChildren(...shown.slice(first, last).map((video, place) => row(video, first + place)));
  byId("found").textContent = shown.length === videos.length ? plural(shown.length, "video") : `${shown.length.toLocaleString("en")} of ${plural(videos.length, "video")}`;
  const pages = Math.max(Math.ceil(shown.length / rowsPerPage), 1);
  byId("pages").replaceChildren(...(pages === 1 ? [] : [
    el("button", { type: "button", disabled: page === 0, onclick: () => turn(-1) }, "Previous"),
    el("span", {}, `page ${page + 1} of ${pages.toLocaleString("en")}`),
    el("button", { type: "button", disabled: page === pages - 1, onclick: () => turn(1) }, "Next")]));
}

function turn(by) {
  page = Math.max(0, Math.min(page + by, Math.ceil(shown.length / rowsPerPage) - 1));
  current = page * rowsPerPage;
  showRows();
  window.scrollTo(0, 0);
}

function moveRow(by) {
  current = Math.max(0, Math.min(current + by, shown.length - 1));
  const wanted = Math.floor(current / rowsPerPage);
  if (wanted !== page) page = wanted;
  showRows();
  byId("rows").children[current - page * rowsPerPage]?.scrollIntoView({ block: "nearest" });
}

function buildList() {
  for (const [rank, video] of videos.entries()) {
    video.rank = rank;
    video.search = [video.id, ...video.own].filter(Boolean).join(" ").toLowerCase();
  }
  const left = summary.num_videos - summary.num_shown;
  byId("list").replaceChildren(verdictTabs(), filterBar(),
    el("div", { class: "bar" }, el("b", { id: "found" }),
      choice("order", "Order", Object.entries(orders).map(([name, [text]]) => [name, text])), left ? el("span", { class: "soft" }, `${plural(left, "less suspicious video")} of the run ${left === 1 ? "is" : "are"} not on this page`) : null),
    el("ol", { id: "rows", class: "rows" }), el("nav", { id: "pages", "aria-label": "Pages" }));
  applyFilters();
}

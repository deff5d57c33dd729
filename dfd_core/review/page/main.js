/* Start: read what is kept, load the list, show what the address names. */

function about() {
  const parts = [plural(summary.num_videos, "video"), summary.source, `scored by ${summary.model}`, summary.finished && summary.finished.slice(0, 10)];
  byId("about").append(...parts.filter(Boolean).flatMap((part, place) => [place ? " · " : "", el("bdi", {}, part)]));
  if (!summary.trained) {
    byId("top").after(el("p", { class: "note loud" }, "This model is untrained: its scores are noise."));
  }
}

async function route() {
  const match = /^#video\/(\d+)$/.exec(location.hash);
  try {
    if (match) await showVideo(Number(match[1]));
    else showListView();
  } catch (error) {
    byId("notes").append(el("p", { class: "note" }, error.message));
  }
}

function onDecided(event) {
  if (!open) return showRows();
  const video = open.video;
  const bar = document.querySelector(".decide");
  if (document.activeElement?.id !== "comment") bar.replaceWith(decisionBar(open, video));
}

async function start() {
  readDecisions();
  about();
  buildHelp();
  byId("download").addEventListener("click", downloadDecisions);
  byId("load").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", () => byId("file").files[0] && loadDecisions(byId("file").files[0]));
  byId("help").addEventListener("click", () => byId("keys").showModal());
  document.addEventListener("keydown", onKey);
  document.addEventListener("decided", onDecided);
  window.addEventListener("hashchange", route);
  window.addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
  window.addEventListener("storage", (event) => { if (event.key === storageKey) { readDecisions(); onDecided(); } });
  videos = await load("list");
  buildList();
  showKept();
  await route();
  document.body.dataset.ready = "true";
}

start().catch((error) => byId("notes").append(el("p", { class: "note" }, `The page is incomplete: ${error.message}. The folder data must lie beside index.html.`)));

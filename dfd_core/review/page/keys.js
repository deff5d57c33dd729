/* The keyboard. */

const KEYS = [
  ["j  ↓", "next video"], ["k  ↑", "previous video"], ["Enter", "open the video"], ["Esc", "back to the list"],
  ["f  r  u", "decide: fake, real, unsure; again takes it back"], ["c", "comment"], ["1 … 9", "play a suspicious stretch"],
  ["Space", "play, pause"], ["←  →", "one second back, ahead"], ["m", "show which parts move the score"], ["/", "search"],
  ["d", "download decisions"], ["?", "this help"],
];

function buildHelp() {
  byId("keys").replaceChildren(el("h2", {}, "Keys"),
    el("dl", {}, KEYS.map(([key, text]) => [el("dt", {}, key.split("  ").map((one) => el("kbd", {}, one))), el("dd", {}, text)])),
    el("button", { type: "button", onclick: () => byId("keys").close() }, "Close"));
}

const subject = () => (open ? open.video : shown[current]);

function decideBy(name) {
  const video = subject();
  if (video) decide(video, { decision: decisionOf(video).decision === name ? "" : name });
}

function skip(by) {
  if (open) seek(open, Math.max(0, open.time + by));
}

function togglePlay() {
  const player = open?.player;
  if (player) player.paused ? player.play().catch(() => {}) : player.pause();
}

const actions = {
  j: () => (open ? step(1) : moveRow(1)), k: () => (open ? step(-1) : moveRow(-1)),
  ArrowDown: () => (open ? step(1) : moveRow(1)), ArrowUp: () => (open ? step(-1) : moveRow(-1)),
  ArrowRight: () => skip(1), ArrowLeft: () => skip(-1),
  Enter: () => { if (!open && subject()) location.hash = `video/${subject().rank}`; },
  Escape: () => { if (open) showList(); },
  f: () => decideBy("fake"), r: () => decideBy("real"), u: () => decideBy("unsure"),
  c: () => byId("comment")?.focus(), m: () => byId("maps")?.click(), "/": () => { if (open) showList(); byId("search").focus(); },
  d: downloadDecisions, "?": () => byId("keys").showModal(), " ": togglePlay,
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
  const target = event.target;
  if (target.matches("textarea, input:not([type=checkbox]), select")) {
    if (event.key === "Escape") target.blur();
    return;
  }
  if ((event.key === " " || event.key === "Enter") && target.matches("button, a, summary, video, input")) return;
  if (target.matches("video") && event.key.startsWith("Arrow")) return;
  const action = /^[1-9]$/.test(event.key) ? () => open && playSpan(open, Number(event.key) - 1) : actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

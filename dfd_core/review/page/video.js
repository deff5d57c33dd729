/* One video: what was found, when, in whom, and what the reviewer says. */

let open = null;

function playerOf(video, record, view) {
  if (!record.links.length) {
    return el("p", { class: "soft unplayable" }, "This page plays videos of this computer only. The video is at ", el("bdi", { class: "address" }, video.uri));
  }
  const player = el("video", { controls: true, preload: "metadata", playsinline: true, "aria-label": "Source video" },
    record.links.map((address) => el("source", { src: address })));
  const boxes = el("div", { class: "boxes", "aria-hidden": "true" });
  const frame = el("div", { class: "player" }, player, boxes);
  player.lastElementChild.addEventListener("error", () => frame.replaceWith(el("p", { class: "soft unplayable" },
    "This browser cannot play the video: it was moved, or it is of a kind that browsers do not play. It is at ", el("bdi", { class: "address" }, video.uri))));
  player.addEventListener("timeupdate", () => { view.time = player.currentTime; showTime(view); });
  player.addEventListener("loadeddata", () => showTime(view));
  player.addEventListener("seeked", () => showTime(view));
  view.player = player;
  view.boxes = boxes;
  return frame;
}

/* The faces of the sampled frame nearest to the time, drawn where they were found. */
function showTime(view) {
  view.lanes.moveTo(view.time);
  if (!view.boxes || !view.record.width || !view.player.videoWidth) return;
  const nearest = new Map();
  for (const face of view.record.faces) {
    const away = Math.abs(face[0] - view.time), best = nearest.get(face[1]);
    if (away < 1.5 && (!best || away < Math.abs(best[0] - view.time))) nearest.set(face[1], face);
  }
  const { width, height } = view.record;
  const frame = view.boxes.getBoundingClientRect();
  const scale = Math.min(frame.width / width, frame.height / height);
  const left = (frame.width - width * scale) / 2, top = (frame.height - height * scale) / 2;
  view.boxes.replaceChildren(...[...nearest.values()].map(([, track, p, x0, y0, x1, y1]) => {
    const box = el("div", { class: `box ${side(p)}` }, el("span", {}, track === null ? score(p) : `${track}: ${score(p)}`));
    Object.assign(box.style, { left: `${left + x0 * scale}px`, top: `${top + y0 * scale}px`, width: `${(x1 - x0) * scale}px`, height: `${(y1 - y0) * scale}px` });
    return box;
  }));
}

function seek(view, time) {
  view.time = time;
  if (view.player) view.player.currentTime = time;
  showTime(view);
}

const mostMoved = (picture) => Math.max(...picture.occlusion.map(Math.abs));

/* The part of the picture that the model sees: the box, widened by the run's margin. */
function seenBox(picture) {
  const x = (picture.right - picture.left) * summary.margin, y = (picture.bottom - picture.top) * summary.margin;
  return [Math.max(picture.left - x, 0), Math.max(picture.top - y, 0), Math.min(picture.right + x, picture.width), Math.min(picture.bottom + y, picture.height)];
}

function mapOf(picture) {
  const side = Math.round(Math.sqrt(picture.occlusion.length));
  const canvas = el("canvas", { class: "map", width: side, height: side, "aria-hidden": "true" });
  const most = Math.max(mostMoved(picture), 0.05);
  const ink = canvas.getContext("2d");
  picture.occlusion.forEach((value, place) => {
    ink.fillStyle = value > 0 ? "#ff7a2f" : "#3d8bff";
    ink.globalAlpha = (Math.abs(value) / most) * 0.75;
    ink.fillRect(place % side, Math.floor(place / side), 1, 1);
  });
  const share = (part, whole) => `${(part / whole) * 100}%`;
  const [left, top, right, bottom] = seenBox(picture);
  Object.assign(canvas.style, { left: share(left, picture.width), top: share(top, picture.height),
    width: share(right - left, picture.width), height: share(bottom - top, picture.height) });
  return canvas;
}

function pictureCard(view, picture) {
  return el("figure", { class: "picture" },
    el("button", { type: "button", class: "shot", title: `Go to ${clock(picture.time_s)}`, onclick: () => seek(view, picture.time_s) },
      el("img", { src: jpeg(picture.jpeg), alt: `Face at ${clock(picture.time_s)}, score ${score(picture.p)}`, loading: "lazy" }),
      picture.occlusion ? mapOf(picture) : null),
    el("figcaption", {}, el("b", { class: side(picture.p) }, score(picture.p)), ` at ${clock(picture.time_s)}`,
      picture.occlusion ? el("small", { class: "map-note" }, `Covering a part moves the score by ${mostMoved(picture).toFixed(3)} at most. No proof.`) : null));
}

function trackSection(view, track) {
  const pictures = view.record.pictures.filter((picture) => picture.track === track.id);
  const spans = view.record.spans.map((span, number) => [number, span]).filter(([, span]) => span[0] === track.id);
  const shots = (kind, title) => {
    const found = pictures.filter((picture) => picture.kind === kind);
    return found.length ? el("div", { class: "shots" }, el("h4", {}, title), el("div", { class: "grid" }, found.map((picture) => pictureCard(view, picture)))) : null;
  };
  return el("section", { class: "track" },
    el("h3", {}, trackName(track.id), track.verdict ? verdictChip(track.verdict) : null, track.p === null ? null : el("span", { class: "p" }, score(track.p)),
      track.start_s === undefined ? null : el("small", {}, `${stretch(track.start_s, track.end_s)}, ${plural(track.num_faces, "face")}`,
        track.reason ? `, ${track.reason}` : "")),
    spans.length ? el("p", { class: "spans" }, "Suspicious: ", spans.map(([number, [, start, end, p]]) =>
      el("button", { type: "button", class: "span-button", title: `key ${number + 1}`, onclick: () => playSpan(view, number) }, stretch(start, end), el("small", {}, score(p))))) : null,
    el("div", { class: "both" }, shots("most", "Most suspicious"), shots("least", "Least suspicious")));
}

function playSpan(view, number) {
  const span = view.record.spans[number];
  if (!span) return;
  seek(view, span[1]);
  view.player?.play().catch(() => {});
}

function decisionBar(view, video) {
  const found = decisionOf(video);
  const comment = el("textarea", { id: "comment", rows: 2, placeholder: "Comment  ( c )", "aria-label": "Comment", onchange: () => decide(video, { comment: comment.value.trim() }) });
  comment.value = found.comment;
  return el("section", { class: "decide", "aria-label": "Your decision" },
    el("h3", {}, "Your decision"),
    el("div", { class: "buttons" }, LABELS.map((name) => el("button", { type: "button", class: `tab ${name}`, title: name[0], "data-decision": name,
      "aria-pressed": String(found.decision === name), onclick: () => decide(video, { decision: decisionOf(video).decision === name ? "" : name }) }, name))),
    comment, el("p", { class: "printed" }, found.decision || "none", found.comment ? el("bdi", {}, `: ${found.comment}`) : null));
}

function factsOf(record) {
  return el("dl", { class: "facts" }, record.facts.map(([name, value, note]) =>
    [el("dt", {}, el("bdi", {}, name)), el("dd", {}, el("bdi", {}, value), note ? el("small", {}, note) : null)]));
}

function mapSwitch() {
  const box = el("input", { type: "checkbox", id: "maps", onchange: () => byId("video").classList.toggle("with-maps", box.checked) });
  return el("p", { class: "warning" }, el("label", {}, box, " Show which parts move the score ( m ). "), summary.occlusion_is_no_proof);
}

async function showVideo(rank) {
  const video = videos[rank];
  if (!video) return showListView();
  const record = await loadRecord(rank);
  const view = { rank, video, record, time: 0, player: null, boxes: null };
  view.lanes = timeline(record, video.end, (time) => seek(view, time));
  const place = shown.indexOf(video);
  const hasMaps = record.pictures.some((picture) => picture.occlusion);
  const tracks = lanesOf(record);
  const playable = playerOf(video, record, view);
  byId("video").replaceChildren(
    el("nav", { class: "steps", "aria-label": "Videos" },
      el("button", { type: "button", onclick: showList, title: "Esc" }, "← List"),
      el("span", { class: "soft" }, place < 0 ? "" : `${(place + 1).toLocaleString("en")} of ${shown.length.toLocaleString("en")}`),
      el("button", { type: "button", disabled: place <= 0, onclick: () => step(-1), title: "k" }, "Previous"),
      el("button", { type: "button", disabled: place < 0 || place >= shown.length - 1, onclick: () => step(1), title: "j" }, "Next")),
    el("h2", {}, pathName(video.id)),
    el("p", { class: "answer" }, verdictChip(video.verdict, video.status), el("span", {}, record.answer,
      record.reason ? ` Reason: ${record.reason}.` : "")),
    record.expected ? el("p", { class: "soft expected" }, record.expected) : null,
    el("div", { class: "columns" },
      el("div", { class: "wide" }, playable, record.faces.length ? view.lanes : null, hasMaps ? mapSwitch() : null,
        record.pictures.length || record.tracks.length ? tracks.map((track) => trackSection(view, track)) : null),
      el("div", { class: "narrow" }, decisionBar(view, video), el("h3", {}, "Facts"), factsOf(record))),
    el("p", { class: "soft" }, summary.no_proof));
  byId("video").classList.remove("with-maps");
  open = view;
  byId("list").hidden = true;
  byId("video").hidden = false;
  window.scrollTo(0, 0);
  if (record.spans.length) seek(view, record.spans[0][1]);
}

function showListView() {
  open = null;
  byId("video").replaceChildren();
  byId("video").hidden = true;
  byId("list").hidden = false;
  showRows();
  byId("rows").children[current - page * rowsPerPage]?.scrollIntoView({ block: "nearest" });
}

const showList = () => { location.hash = ""; };

function step(by) {
  const place = shown.indexOf(open.video) + by;
  if (place < 0 || place >= shown.length) return;
  current = place;
  page = Math.floor(place / rowsPerPage);
  location.hash = `video/${shown[place].rank}`;
}

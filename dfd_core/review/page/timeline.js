/* Scores over time: small in the list, a lane for each track in the view of a video. */

function stripChart(video) {
  const parts = video.strip.length;
  const chart = svg("svg", { class: "strip", viewBox: `0 0 ${parts} 12`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const [track, start, end] of video.spans) {
    const from = (start / video.end) * parts, to = (end / video.end) * parts;
    chart.append(svg("rect", { class: "span", x: from, y: 0, width: Math.max(to - from, parts / 60), height: 12 }));
  }
  for (let part = 0; part < parts; part += 1) {
    if (video.strip[part] === "-") continue;
    const p = parseInt(video.strip[part], 36) / 35;
    chart.append(svg("rect", { class: side(p), x: part + 0.08, width: 0.84, y: 11 - p * 10, height: p * 10 + 1 }));
  }
  return chart;
}

function ticks(end) {
  const step = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600].find((size) => end / size <= 8) || 7200;
  return Array.from({ length: Math.floor(end / step) + 1 }, (_, number) => number * step);
}

function lanesOf(record) {
  const tracks = record.tracks.map((track) => ({ ...track, faces: [] }));
  const lanes = new Map(tracks.map((track) => [track.id, track]));
  for (const face of record.faces) {
    if (!lanes.has(face[1])) lanes.set(face[1], { id: face[1], p: null, verdict: null, faces: [] });
    lanes.get(face[1]).faces.push(face);
  }
  return [...lanes.values()];
}

function laneChart(lane, record, end, seek) {
  const times = lane.faces.map((face) => face[0]);
  const gaps = times.slice(1).map((time, place) => time - times[place]).filter((gap) => gap > 0).sort((a, b) => a - b);
  const width = Math.min(((gaps[Math.floor(gaps.length / 2)] || end / 100) / end) * 1000, 90);
  const chart = svg("svg", { class: "lane", viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img",
    "aria-label": `${trackName(lane.id)}: score over time` });
  const x = (time) => (time / end) * 1000;
  record.spans.forEach(([track, start, stop, p], number) => {
    if (track !== lane.id) return;
    const area = svg("rect", { class: "span", x: x(start), y: 0, width: Math.max(x(stop) - x(start) + width, 4), height: 100 });
    area.append(svg("title", {}, `${stretch(start, stop)}, score ${score(p)}, key ${number + 1}`));
    chart.append(area);
  });
  for (const [time, , p] of lane.faces) {
    const bar = svg("rect", { class: side(p), x: x(time), y: 100 - Math.max(p * 100, 2), width: Math.max(width * 0.86, 1.5), height: Math.max(p * 100, 2) });
    bar.append(svg("title", {}, `${clock(time)}, score ${score(p)}`));
    chart.append(bar);
  }
  for (const p of new Set([low, high])) {
    chart.append(svg("line", { class: "limit", x1: 0, x2: 1000, y1: 100 - p * 100, y2: 100 - p * 100 }));
  }
  chart.addEventListener("click", (event) => {
    const box = chart.getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width) * end);
  });
  return chart;
}

function timeline(record, end, seek) {
  const lanes = lanesOf(record);
  const rows = lanes.map((lane) => {
    const best = record.pictures.find((picture) => picture.track === lane.id && picture.kind === "most");
    return el("div", { class: "lane-row" },
      el("div", { class: "lane-name" },
        best ? el("img", { src: jpeg(best.jpeg), alt: "", class: "lane-face" }) : null,
        el("span", {}, el("b", {}, trackName(lane.id)), lane.p === null ? null : el("small", {}, `score ${score(lane.p)}`))),
      el("div", { class: "lane-box" }, laneChart(lane, record, end, seek), el("i", { class: "playhead", hidden: true })));
  });
  const axis = el("div", { class: "axis" }, ticks(end).map((time) => {
    const tick = el("span", { class: time > 0.94 * end ? "last" : null }, clock(time));
    tick.style.left = `${(time / end) * 100}%`;
    return tick;
  }));
  const box = el("section", { class: "timeline", "aria-label": "Timeline" }, rows,
    el("div", { class: "lane-row" }, el("div", { class: "lane-name" }), el("div", { class: "lane-box axis-box" }, axis)));
  box.moveTo = (time) => {
    for (const head of box.querySelectorAll(".playhead")) {
      head.hidden = false;
      head.style.left = `${Math.min(time / end, 1) * 100}%`;
    }
  };
  return box;
}

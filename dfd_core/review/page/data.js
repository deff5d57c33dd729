/* The videos, in script files beside this page: a page on disk may load scripts, and may not read files. */

const held = new Map();
const waiting = new Map();
const mostHeld = 16;

window.dfdReview = (name, value) => {
  held.set(name, value);
  for (const old of held.keys()) {
    if (held.size <= mostHeld) break;
    if (old !== "list" && old !== name) held.delete(old);
  }
};

function load(name) {
  if (held.has(name)) return Promise.resolve(held.get(name));
  if (!waiting.has(name)) {
    waiting.set(name, new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = `data/${name}.js`;
      script.onload = () => (held.has(name) ? resolve(held.get(name)) : reject(new Error(name)));
      script.onerror = () => reject(new Error(`data/${name}.js cannot be loaded`));
      document.head.append(script);
    }).finally(() => waiting.delete(name)));
  }
  return waiting.get(name);
}

async function entry(kind, size, rank) {
  const chunk = await load(`${kind}-${Math.floor(rank / size)}`);
  return chunk[rank % size];
}

const loadRecord = (rank) => entry("videos", summary.videos_per_file, rank);
const loadFaces = (rank) => entry("faces", summary.faces_per_file, rank);
const jpeg = (base64) => `data:image/jpeg;base64,${base64}`;
let videos = [];

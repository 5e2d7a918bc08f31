// The result of one clip: two pictures, classes, votes, timeline, downloads.

export const find = (id) => document.getElementById(id);
export const percent = (share) => (share >= 0.0995 ? `${Math.round(100 * share)} %` : `${(100 * share).toFixed(1)} %`);
export const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
const seconds = (time) => `${time.toFixed(1)} s`;
const before = find("before"), after = find("after");
const RETRY_MS = 1500;
// What is shown: the item, its timeline, the length of the videos.
const shown = { item: null, parts: [], length: 0 };

export function make(name, text = "", kind = "") {
  const element = document.createElement(name);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

export function say(text) {
  find("said").textContent = text;
}

export function show(item) {
  const answer = item.answer, [best] = answer.top;
  shown.item = item;
  find("name").textContent = answer.name;
  find("answer").replaceChildren(best.class, make("small", headline(answer)));
  find("status").hidden = answer.status === "ok";
  find("status").classList.toggle("sure", answer.status === "sure");
  find("status").textContent = answer.status;
  find("bars").replaceChildren(...(isByTime(answer) ? sharesOfTime(answer) : answer.top.map((one) => [one.class, one.probability, percent(one.probability)])).map(bar));
  showVotes(answer.models, best.class);
  showTimeline(answer);
  showPictures(answer, item.whole || answer);
  showDownloads(answer);
  find("facts").textContent = `${seconds(answer.seconds)}, ${answer.num_frames} frames; predicted in ${seconds(answer.took_sec)}`;
}

export function leave() {
  shown.item = null;
  before.pause();
  after.pause();
}

// What stands beside the class: its probability, or its share of a long clip's time.
export function headline(answer) {
  return isByTime(answer) ? `${percent(sharesOfTime(answer)[0][1])} of the time` : percent(answer.top[0].probability);
}

// One class throughout has a probability like that of a short clip.
function isByTime(answer) {
  return answer.by_time && answer.timeline.length > 1;
}

// Class, share of time and seconds of each class of a timeline, the longest first.
function sharesOfTime(answer) {
  const lengths = new Map();
  let total = 0;
  for (const one of answer.timeline) {
    const length = one.end_sec - one.start_sec;
    lengths.set(one.class, (lengths.get(one.class) || 0) + length);
    total += length;
  }
  return [...lengths].sort((one, other) => other[1] - one[1]).map(([name, length]) => [name, length / total, seconds(length)]);
}

// What is to be known of an answer beside its class.
export function doubt(one) {
  return ["ok", "sure"].includes(one.status) ? "" : `, ${one.status.split(":")[0]}`;
}

function bar([name, share, words]) {
  const row = make("li"), length = make("span", "", "bar");
  length.style.setProperty("--share", share);
  row.append(make("span", name), make("span", words), length);
  return row;
}

function showVotes(models, best) {
  find("models").hidden = models.length < 2;
  const agreeing = models.filter((one) => one.agrees).length;
  find("agree").textContent = `${agreeing === models.length ? `All ${agreeing}` : `${agreeing} of ${models.length}`} models say ${best}`;
  find("votes").replaceChildren(...models.map((one) => {
    const row = make("li", "", one.agrees ? "" : "other");
    row.append(make("span", one.name), make("b", one.class));
    return row;
  }));
}

// --- when ------------------------------------------------------------------------------------------------------

function showTimeline(answer) {
  const parts = answer.timeline, kinds = [...new Set(parts.map((one) => one.class))];
  const kind = (one) => `k${kinds.indexOf(one.class) % 12}`;
  shown.parts = parts;
  find("when").hidden = !parts.length;
  // The bar is for pointers; the lines below it say the same, and are for keys and readers as well.
  find("track").replaceChildren(...parts.map((one) => {
    const part = make("span", "", kind(one));
    part.append(make("span", one.class));
    part.style.setProperty("--long", one.end_sec - one.start_sec);
    part.title = `${one.class}, ${times(one)}`;
    part.onclick = () => watch(one.start_sec);
    return part;
  }), make("i", "", "head"));
  find("lines").replaceChildren(...parts.map((one) => {
    const row = make("li"), button = make("button");
    button.type = "button";
    button.append(make("i", "", kind(one)), make("span", one.class + doubt(one)), make("span", times(one), "soft"), make("span", percent(one.probability)));
    button.onclick = () => watch(one.start_sec);
    row.append(button);
    return row;
  }));
  find("end").textContent = seconds(answer.seconds);
}

function times(one) {
  return `${one.start_sec.toFixed(1)} to ${seconds(one.end_sec)}`;
}

// Show a time of the clip, of which the videos may show the start only.
async function watch(time) {
  const item = shown.item;
  if (time >= shown.length && !item.whole && !(await showWhole())) return;
  if (shown.item !== item) return;
  seek(Math.min(time, shown.length));
  play(true);
  find("compare").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth", block: "nearest" });
}

function markTime() {
  const time = before.currentTime;
  find("track").style.setProperty("--time", shown.item ? time / shown.item.answer.seconds : 0);
  [...find("lines").children].forEach((row, at) => {
    const part = shown.parts[at], now = time >= part.start_sec && time < part.end_sec;
    row.firstChild.classList.toggle("now", now);
    if (now) row.firstChild.setAttribute("aria-current", "time");
    else row.firstChild.removeAttribute("aria-current");
  });
}

// --- the two pictures ------------------------------------------------------------------------------------------

function showPictures(answer, videos) {
  const [width, height] = answer.size, [dark, lit] = answer.brightness;
  find("compare").style.setProperty("--shape", `${width} / ${height}`);
  shown.length = videos.preview_sec;
  before.src = videos.before;
  after.src = videos.after;
  const isPart = videos.preview_sec < answer.seconds - 0.5;
  const part = isPart ? `; the first ${Math.round(videos.preview_sec)} s are shown` : "";
  find("light").textContent = `Mean brightness ${Math.round(dark)} of 255, enhanced ${Math.round(lit)}${part}`;
  find("whole").hidden = !isPart;
  wipe(50);
  play(!calm.matches);
}

// True once the videos show the whole clip.
async function showWhole() {
  const item = shown.item, button = find("whole");
  const said = await ask(button, "Preparing the whole clip", `clips/${item.answer.clip}/whole`);
  if (!said) return false;
  item.whole = said;
  if (shown.item === item) {
    showPictures(item.answer, said);
    if (document.activeElement === document.body) find("play").focus({ preventScroll: true });
    say("The whole clip is shown");
  }
  return true;
}

function wipe(at) {
  find("wipe").value = at;
  find("compare").style.setProperty("--at", `${at}%`);
}

function play(wanted) {
  find("play").textContent = wanted ? "Pause" : "Play";
  find("play").setAttribute("aria-pressed", String(wanted));
  for (const video of [before, after]) {
    if (wanted) video.play().catch(() => {});
    else video.pause();
  }
}

function seek(time) {
  before.currentTime = after.currentTime = Math.max(time, 0);
}

// --- downloads -------------------------------------------------------------------------------------------------

function showDownloads(answer) {
  const links = [["one-csv", "results.csv", ".csv"], ["one-timeline", "timelines.csv", ".timeline.csv"], ["one-json", "results.json", ".json"]];
  for (const [id, file, ending] of links) {
    find(id).href = `${file}?clip=${answer.clip}`;
    find(id).download = answer.name + ending;
  }
  find("one-timeline").hidden = !answer.timeline.length;
}

async function saveAnnotated() {
  const { answer } = shown.item;
  const said = await ask(find("annotated"), "preparing the annotated video", `clips/${answer.clip}/annotated`);
  if (!said) return;
  const link = make("a");
  link.href = said.annotated;
  link.download = `${answer.name}.annotated.mp4`;
  link.click();
  say("The annotated video is downloaded");
}

// Ask for a video, however long other clips take; its button says what happens.
async function ask(button, doing, address) {
  const words = button.dataset.words || button.textContent;
  button.dataset.words = words;
  button.textContent = doing;
  button.setAttribute("aria-disabled", "true");
  say(doing);
  try {
    for (;;) {
      const answer = await fetch(address, { method: "POST" });
      const said = await answer.json();
      if (answer.ok) return said;
      if (answer.status !== 503) throw new Error(said.error);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  } catch (error) {
    find("facts").textContent = error.message;
    say(error.message);
    return null;
  } finally {
    button.textContent = words;
    button.removeAttribute("aria-disabled");
  }
}

function ifEnabled(act) {
  return (event) => event.currentTarget.getAttribute("aria-disabled") !== "true" && act();
}

// Both play the same frames; where one falls behind, it jumps.
before.addEventListener("timeupdate", () => {
  if (Math.abs(before.currentTime - after.currentTime) > 0.12) after.currentTime = before.currentTime;
  markTime();
});
find("wipe").addEventListener("input", () => wipe(find("wipe").value));
find("play").addEventListener("click", () => play(before.paused));
find("whole").addEventListener("click", ifEnabled(showWhole));
find("annotated").addEventListener("click", ifEnabled(saveAnnotated));

"use strict";

const find = (id) => document.getElementById(id);
const drop = find("drop"), file = find("file"), before = find("before"), after = find("after");
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
const percent = (share) => (share >= 0.0995 ? `${Math.round(100 * share)} %` : `${(100 * share).toFixed(1)} %`);
const seconds = (time) => `${time.toFixed(1)} s`;
const MIB = 1048576;
let sending = null;

function make(name, text = "", kind = "") {
  const element = document.createElement(name);
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

function showOnly(id) {
  for (const name of ["busy", "error", "result"]) find(name).hidden = name !== id;
  drop.classList.toggle("small", id === "result" || id === "busy");
}

function fail(why) {
  find("why").textContent = why;
  showOnly("error");
}

// --- sending ---------------------------------------------------------------------------------------------------

function send(clip) {
  if (sending) sending.abort();
  const maxBytes = Number(drop.dataset.maxBytes);
  if (clip.size > maxBytes) {
    fail(`${clip.name} has ${Math.ceil(clip.size / MIB)} MiB, more than the ${Math.floor(maxBytes / MIB)} MiB allowed: cut or scale it down.`);
    return;
  }
  before.pause();
  after.pause();
  const request = new XMLHttpRequest();
  sending = request;
  request.open("POST", "clips");
  request.setRequestHeader("X-File-Name", encodeURIComponent(clip.name));
  request.responseType = "json";
  request.upload.onprogress = (event) => { find("progress").value = event.loaded / Math.max(event.total, 1); };
  request.upload.onload = () => look(clip.name);
  request.onload = () => finish(request, () => {
    if (request.status === 200) show(request.response);
    else fail((request.response && request.response.error) || `The server answered ${request.status}.`);
  });
  request.onerror = () => finish(request, () => fail("The connection was closed: the file was refused, or the server stopped."));
  request.onabort = () => finish(request, () => showOnly(""));
  find("doing").textContent = `Sending ${clip.name}`;
  find("progress").value = 0;
  showOnly("busy");
  request.send(clip);
}

function look(name) {
  find("doing").textContent = `Predicting ${name}: this may take up to ${drop.dataset.answerSec} seconds`;
  find("progress").removeAttribute("value");
}

function finish(request, then) {
  if (sending !== request) return;
  sending = null;
  file.value = "";
  then();
}

// --- showing ---------------------------------------------------------------------------------------------------

function show(answer) {
  const [best] = answer.top;
  find("name").textContent = answer.name;
  find("answer").replaceChildren(best.class, make("small", percent(best.probability)));
  find("bars").replaceChildren(...answer.top.map(bar));
  showVotes(answer.models, best.class);
  showTimeline(answer);
  showPictures(answer);
  find("facts").textContent = `${seconds(answer.seconds)}, ${answer.num_frames} frames; predicted in ${seconds(answer.took_sec)}`;
  showOnly("result");
  find("result").focus({ preventScroll: true });
  find("result").scrollIntoView({ behavior: calm.matches ? "auto" : "smooth", block: "nearest" });
}

function bar(one) {
  const row = make("li"), length = make("span", "", "bar");
  length.style.setProperty("--share", one.probability);
  row.append(make("span", one.class), make("span", percent(one.probability)), length);
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

function showTimeline(answer) {
  const parts = answer.timeline, kinds = [...new Set(parts.map((one) => one.class))];
  find("when").hidden = !parts.length;
  const kind = (one) => `k${kinds.indexOf(one.class) % 12}`;
  const times = (one) => `${one.start_sec.toFixed(1)} to ${seconds(one.end_sec)}`;
  find("track").replaceChildren(...parts.map((one) => {
    const row = make("li"), button = make("button", "", kind(one));
    button.append(make("span", one.class));
    row.style.setProperty("--long", one.end_sec - one.start_sec);
    button.type = "button";
    button.title = `${one.class}, ${times(one)}`;
    button.setAttribute("aria-label", `${one.class}, ${times(one)}, ${percent(one.probability)}`);
    button.disabled = one.start_sec >= answer.preview_sec;
    button.onclick = () => seek(one.start_sec);
    row.append(button);
    return row;
  }));
  find("legend").replaceChildren(...parts.map((one) => {
    const row = make("li");
    row.append(make("i", "", kind(one)), make("span", one.class), make("span", times(one), "soft"), make("span", percent(one.probability)));
    return row;
  }));
  find("end").textContent = seconds(answer.seconds);
}

// --- the two pictures ------------------------------------------------------------------------------------------

function showPictures(answer) {
  const [width, height] = answer.size, [dark, lit] = answer.brightness;
  find("compare").style.setProperty("--shape", `${width} / ${height}`);
  before.src = answer.before;
  after.src = answer.after;
  const part = answer.preview_sec < answer.seconds - 0.5 ? `; the first ${Math.round(answer.preview_sec)} s are shown` : "";
  find("light").textContent = `Mean brightness ${Math.round(dark)} of 255, enhanced ${Math.round(lit)}${part}`;
  wipe(50);
  play(!calm.matches);
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

// Both play the same frames; where one falls behind, it jumps.
before.addEventListener("timeupdate", () => {
  if (Math.abs(before.currentTime - after.currentTime) > 0.12) after.currentTime = before.currentTime;
});
find("wipe").addEventListener("input", () => wipe(find("wipe").value));
find("play").addEventListener("click", () => play(before.paused));
find("cancel").addEventListener("click", () => sending && sending.abort());
file.addEventListener("change", () => file.files.length && send(file.files[0]));
drop.addEventListener("submit", (event) => event.preventDefault());

// --- dropping anywhere on the page -----------------------------------------------------------------------------

for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => event.relatedTarget || drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (event.dataTransfer.files.length) send(event.dataTransfer.files[0]);
});

// The page: clips come in by choice, drop or example; the list shows all, the right side one of them.

import { Queue, clipOf, isOpen } from "./queue.js";
import { calm, doubt, find, headline, leave, make, say, show } from "./result.js";

const MAX_CLIPS = 1000;
const drop = find("drop"), file = find("file");
const rows = new Map();
let chosen = null;
// Whether the person chose it: else the first result is shown.
let isOwnChoice = false;

// Classes in the reader's words, where the models take them. An empty field leaves them to the server.
const words = document.getElementById("labels");
const limits = { maxBytes: Number(drop.dataset.maxBytes), labels: () => (words ? words.value.trim() : "") };
const queue = new Queue(limits, changed, settled);

function take(files) {
  if (!files.length) return;
  const room = MAX_CLIPS - queue.items.length;
  const first = queue.items.length === 0;
  const added = queue.add([...files].slice(0, Math.max(room, 0)));
  if (files.length > room) say(`The list holds ${MAX_CLIPS} clips: clear it, then send the others.`);
  added.forEach(changed);
  // A new single clip is what the person waits for; of many, the first that is ready is shown.
  if (added.length === 1) choose(added[0], false);
  else if (first) choose(null, false);
  drop.classList.add("small");
  file.value = "";
}

// --- the list --------------------------------------------------------------------------------------------------

function changed(item) {
  if (!queue.items.includes(item)) return;
  const row = rows.get(item.id) || addRow(item);
  const words = stateOf(item);
  row.state.textContent = words;
  row.item.className = item.state;
  row.progress.hidden = !isOpen(item) || item.state === "waiting";
  if (item.state === "sending") row.progress.value = item.share;
  else row.progress.removeAttribute("value");
  row.remove.setAttribute("aria-label", `${isOpen(item) ? "Cancel" : "Remove"} ${item.name}`);
  count();
  if (chosen === item) showChosen();
}

function stateOf(item) {
  if (item.state === "sending") return `sending, ${Math.round(100 * item.share)} %`;
  if (item.state === "predicting") return `predicting, ${Math.round((Date.now() - item.since) / 1000)} s`;
  if (item.state === "done") {
    return `${item.answer.top[0].class} ${headline(item.answer)}${doubt(item.answer)}`;
  }
  return item.state === "failed" ? item.failure.error : "waiting";
}

function addRow(item) {
  const element = make("li"), open = make("button", "", "open"), state = make("span", "", "state");
  const progress = make("progress"), remove = make("button", "×", "remove");
  open.type = remove.type = "button";
  open.append(make("span", item.name, "file"), state);
  open.onclick = () => { choose(item, true); reveal(); };
  progress.max = 1;
  progress.setAttribute("aria-label", item.name);
  remove.onclick = () => removeItem(item);
  element.append(open, remove, progress);
  find("files").append(element);
  const row = { item: element, open, state, progress, remove };
  rows.set(item.id, row);
  find("work").hidden = false;
  return row;
}

function removeItem(item) {
  const row = rows.get(item.id), next = row.item.nextElementSibling || row.item.previousElementSibling;
  queue.remove(item);
  row.item.remove();
  rows.delete(item.id);
  if (next) next.querySelector("button").focus();
  else file.focus();
  if (chosen === item) choose(queue.items.find((one) => one.state === "done") || null, false);
  count();
}

function count() {
  const all = queue.items.length, open = queue.items.filter(isOpen).length;
  find("work").hidden = !all;
  find("list").classList.toggle("many", all > 1);
  find("count").textContent = open ? `${all - open} of ${all} done` : `${all} clip${all === 1 ? "" : "s"}`;
  find("all").value = all ? (all - open) / all : 0;
  find("all").hidden = all < 2 || !open;
  find("stop").hidden = open < 2;
  find("clear").hidden = Boolean(open) || all < 2;
  const named = queue.items.map(clipOf).filter(Boolean).map((clip) => `clip=${clip}`).join("&");
  find("save-all").hidden = all < 2 || !named;
  remember();
  for (const [id, name] of [["all-csv", "results.csv"], ["all-timelines", "timelines.csv"], ["all-json", "results.json"]]) find(id).href = `${name}?${named}`;
}

function settled(item) {
  const open = queue.items.filter(isOpen).length, all = queue.items.length;
  const rest = all > 1 ? ` ${all - open} of ${all} done.` : "";
  say(`${item.name}: ${stateOf(item)}.${rest}`);
  if (!chosen && item.state === "done") choose(item, false);
  if (chosen !== item || isOwnChoice) return;
  // Focus goes to the result only where it would take it from nothing else.
  if ([document.body, file].includes(document.activeElement)) reveal();
}

// --- the chosen clip -------------------------------------------------------------------------------------------

function choose(item, own) {
  chosen = item;
  isOwnChoice = own;
  for (const [id, row] of rows) {
    if (item && id === item.id) row.open.setAttribute("aria-current", "true");
    else row.open.removeAttribute("aria-current");
  }
  showChosen();
}

function showChosen() {
  const item = chosen, parts = { result: item && item.state === "done", error: item && item.state === "failed", wait: item && isOpen(item) };
  if (!parts.result || find("result").dataset.item !== String(item.id)) leave();
  for (const [id, wanted] of Object.entries(parts)) find(id).hidden = !wanted;
  if (parts.result) {
    if (find("result").dataset.item !== String(item.id)) show(item);
    find("result").dataset.item = item.id;
    return;
  }
  find("result").dataset.item = "";
  if (parts.error) showFailure(item);
  if (parts.wait) find("doing").textContent = `${item.name}: ${stateOf(item)}`;
}

function showFailure(item) {
  const { error, detail, readable_sec: readable } = item.failure;
  find("failed-name").textContent = item.name;
  find("why").textContent = error;
  find("detail").textContent = detail ? `The reader of the file says: ${detail}` : "";
  // A file from before a reload must be chosen again.
  find("again").hidden = !item.file;
  find("readable").hidden = !(readable > 0 && item.file);
  find("readable").textContent = `Use the ${readable >= 1 ? Math.round(readable) : (readable || 0).toFixed(1)} s that can be read`;
  find("readable").onclick = () => { queue.again(item, true); choose(item, false); };
  find("again").onclick = () => { queue.again(item, item.readable); choose(item, false); };
}

function reveal() {
  const place = [find("result"), find("error")].find((one) => !one.hidden);
  if (!place) return;
  place.focus({ preventScroll: true });
  place.scrollIntoView({ behavior: calm.matches ? "auto" : "smooth", block: "nearest" });
}

// --- a reload --------------------------------------------------------------------------------------------------

// Names of clips, which the server keeps, for as long as this tab is open.
const KEPT = "nightcrawler clips";
let isRecalling = true;

function remember() {
  if (isRecalling) return;
  const ended = queue.items.filter((item) => !isOpen(item));
  const kept = ended.map((item) => ({ name: item.name, clip: clipOf(item), failure: clipOf(item) ? null : item.failure }));
  // A browser may forbid it: the list is then lost with a reload.
  try { sessionStorage.setItem(KEPT, JSON.stringify(kept)); } catch { }
}

async function recall() {
  let kept = [];
  try { kept = JSON.parse(sessionStorage.getItem(KEPT)) || []; } catch { }
  for (const { name, clip, failure } of kept) {
    if (!clip) {
      queue.restore(name, { state: "failed", failure });
      continue;
    }
    const answer = await fetch(`clips/${clip}`);
    // A clip that the server does not know any more (404) is gone.
    if (answer.status === 200) queue.restore(name, { state: "done", answer: await answer.json() });
    else if (answer.status === 422) queue.restore(name, { state: "failed", failure: await answer.json() });
  }
  if (queue.items.length) drop.classList.add("small");
  if (!chosen) choose(queue.items.find((item) => item.state === "done") || queue.items[0] || null, false);
}

// --- ways in ---------------------------------------------------------------------------------------------------

async function takeExample(name) {
  const answer = await fetch(`examples/${name}`);
  if (answer.ok) take([new File([await answer.blob()], name, { type: "video/mp4" })]);
  else say("The example cannot be loaded.");
}

file.addEventListener("change", () => take(file.files));
drop.addEventListener("submit", (event) => event.preventDefault());
find("stop").addEventListener("click", () => queue.stop());
find("clear").addEventListener("click", () => {
  for (const item of [...queue.items]) removeItem(item);
});
for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", () => takeExample(button.dataset.example).catch(() => say("The server does not answer.")));
}
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
  take(event.dataTransfer.files);
});
window.addEventListener("beforeunload", (event) => {
  if (queue.items.some(isOpen)) event.preventDefault();
});
// The seconds of what is predicted, for eyes only: the region for readers says results.
setInterval(() => queue.items.filter((one) => one.state === "predicting").forEach(changed), 1000);
recall().catch(() => {}).finally(() => {
  isRecalling = false;
  remember();
});

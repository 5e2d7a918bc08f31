// Clips that are sent to the server, a few at a time, each with its own progress and outcome.

// One is predicted while the next is sent. The server takes four, so that requests for videos find a place.
const PARALLEL = 2;
const RETRY_MS = 1500;
const MIB = 1048576;

export class Queue {
  // changed(item): its progress or state. settled(item): it is done or has failed.
  constructor(limits, changed, settled) {
    Object.assign(this, { limits, changed, settled, items: [], made: 0 });
  }

  add(files, readable = false) {
    const added = [...files].map((file) => {
      this.made += 1;
      return { id: this.made, file, name: file.name, readable, labels: this.limits.labels(), state: "waiting", share: 0 };
    });
    this.items.push(...added);
    this.next();
    return added;
  }

  // Take up a clip that was sent before the page was loaded anew. Its file is no longer at hand.
  restore(name, values) {
    this.made += 1;
    const item = { id: this.made, file: null, name, readable: false, labels: "", share: 1, ...values };
    this.items.push(item);
    this.changed(item);
  }

  // Send an item again: all of it, or what can be read of it.
  again(item, readable) {
    Object.assign(item, { readable, labels: this.limits.labels(), state: "waiting", share: 0, answer: null, failure: null });
    this.changed(item);
    this.next();
  }

  remove(item) {
    this.items = this.items.filter((one) => one !== item);
    if (item.request) item.request.abort();
    const clip = clipOf(item);
    if (clip) fetch(`clips/${clip}`, { method: "DELETE" }).catch(() => {});
    this.next();
  }

  stop() {
    for (const item of this.items.filter(isOpen)) {
      if (item.request) item.request.abort();
      this.fail(item, { error: "stopped before it was predicted" });
    }
  }

  next() {
    const open = this.items.filter(isOpen);
    let running = open.filter((one) => one.state !== "waiting").length;
    for (const item of open) {
      if (running >= PARALLEL) return;
      if (item.state !== "waiting") continue;
      if (this.send(item)) running += 1;
    }
  }

  // True if it is on its way.
  send(item) {
    if (item.file.size > this.limits.maxBytes) {
      const size = Math.ceil(item.file.size / MIB), most = Math.floor(this.limits.maxBytes / MIB);
      this.fail(item, { error: `the file has ${size} MiB, more than the ${most} MiB allowed: cut or scale it down` });
      return false;
    }
    const request = new XMLHttpRequest();
    Object.assign(item, { request, state: "sending", share: 0 });
    const asked = new URLSearchParams();
    if (item.readable) asked.set("readable", "1");
    if (item.labels) asked.set("labels", item.labels);
    request.open("POST", `clips?${asked}`);
    request.setRequestHeader("X-File-Name", encodeURIComponent(item.name));
    request.responseType = "json";
    request.upload.onprogress = (event) => this.set(item, request, { share: event.loaded / Math.max(event.total, 1) });
    request.upload.onload = () => this.set(item, request, { state: "predicting", since: Date.now() });
    request.onload = () => this.answered(item, request);
    request.onerror = () => this.lost(item, request);
    request.send(item.file);
    this.changed(item);
    return true;
  }

  set(item, request, values) {
    if (item.request !== request) return;
    Object.assign(item, values);
    this.changed(item);
  }

  answered(item, request) {
    if (item.request !== request) return;
    if (request.status === 503) {
      // All places are taken, such as by another window: not the clip's fault.
      item.request = null;
      setTimeout(() => { if (this.items.includes(item) && isOpen(item)) { item.state = "waiting"; this.next(); } }, RETRY_MS);
    } else if (request.status === 200) {
      Object.assign(item, { request: null, state: "done", answer: request.response });
      this.end(item);
    } else {
      this.fail(item, request.response || { error: `the server answered ${request.status}` });
    }
  }

  lost(item, request) {
    if (item.request === request) this.fail(item, { error: "the connection was closed: the file was refused, or the server stopped" });
  }

  fail(item, failure) {
    Object.assign(item, { request: null, state: "failed", failure });
    this.end(item);
  }

  end(item) {
    this.changed(item);
    this.settled(item);
    this.next();
  }
}

export function isOpen(item) {
  return ["waiting", "sending", "predicting"].includes(item.state);
}

// The name of a clip in addresses of the server, empty where it has none.
export function clipOf(item) {
  return (item.answer || item.failure || {}).clip || "";
}

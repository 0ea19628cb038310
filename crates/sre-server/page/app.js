// Keeps the page up to date: /v1/live sends the full state first, and then changes.
import { $, request, tokenEntered } from "./base.js";
import { hideDetail, showDetail } from "./detail.js";
import { showHealth, showOverview, view } from "./list.js";
import { hideTrace, showTrace } from "./trace.js";

/** The current state, by key. */
const parts = new Map();

function apply(update) {
  const changed = new Set(Object.keys(update.parts));
  if (update.whole) {
    for (const key of parts.keys()) if (!changed.has(key)) update.gone.push(key);
  }
  for (const key of update.gone) parts.delete(key);
  for (const [key, value] of Object.entries(update.parts)) parts.set(key, value);
  showOverview(parts, changed, update.gone);
}

/** Ends the current connection, so that the next one requests another view. */
let reconnect = () => {};
/** The id of the last update of the current view; the service sends what came after it. */
let lastUpdate;

addEventListener("viewchange", () => { lastUpdate = undefined; reconnect(); });

async function listen() {
  for (let delay = 500; ; delay = Math.min(delay * 2, 10_000)) {
    const abort = new AbortController();
    reconnect = () => abort.abort();
    try {
      const headers = { Accept: "text/event-stream", ...(lastUpdate && { "Last-Event-ID": lastUpdate }) };
      const response = await request(`/v1/live?${new URLSearchParams(view)}`, { headers, signal: abort.signal });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        $("as-of").textContent = `as of ${new Date().toLocaleTimeString()}`;
        text += value;
        for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
          const fields = text.slice(0, end).split("\n").map((line) => [line.split(":", 1)[0], line.slice(line.indexOf(":") + 1).trim()]);
          const data = fields.filter(([name]) => name === "data").map(([, value]) => value);
          if (data.length === 0) continue;
          apply(JSON.parse(data.join("\n")));
          lastUpdate = fields.findLast(([name]) => name === "id")?.[1];
          showHealth(parts, true);
          delay = 500;
        }
      }
    } catch (error) {
      if (abort.signal.aborted) { delay = 250; continue; }
      console.info("live updates failed:", error.message);
    }
    if (tokenEntered) { await tokenEntered; continue; }
    showHealth(parts, false);
    await new Promise((resolve) => setTimeout(resolve, delay));
  }
}

/** Returns the decoded part of an address, or the part itself if it is not percent-encoded text. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Shows the view that the address names: the overview, an objective of an agent, or a trace of one of its tasks. */
function route() {
  const [, kind, name, agent, , trace] = location.hash.split("/").map(decoded);
  const isDetail = kind === "slo" && name !== undefined;
  $("overview").hidden = isDetail;
  $("detail").hidden = !isDetail;
  hideTrace();
  if (isDetail && !trace) return showDetail(name, agent ?? "");
  hideDetail();
  if (isDetail) showTrace(name, agent, trace);
}

addEventListener("hashchange", () => { route(); $("main").focus(); });
$("endpoint").textContent = location.origin;
route();
listen();

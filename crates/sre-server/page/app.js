// Keeps what the page shows up to date: everything at first, and then what changes, as the service tells it.
import { $, ask, tokenGiven } from "./base.js";
import { showGuards } from "./guards.js";
import { leaveDetail, showDetail } from "./detail.js";
import { showHealth, showList } from "./list.js";

/** Every part of what is shown, by its key. */
const parts = new Map();

function take(update) {
  const changed = new Set(Object.keys(update.parts));
  if (update.whole) {
    for (const key of parts.keys()) if (!changed.has(key)) update.gone.push(key);
  }
  for (const key of update.gone) parts.delete(key);
  for (const [key, value] of Object.entries(update.parts)) parts.set(key, value);
  showList(parts, changed, update.gone);
  if (changed.has("breakers") || changed.has("cascades")) showGuards(parts.get("breakers"), parts.get("cascades"));
}

async function listen() {
  for (let wait = 500; ; wait = Math.min(wait * 2, 10_000)) {
    try {
      const response = await ask("/v1/live", { headers: { Accept: "text/event-stream" } });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        text += value;
        for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
          const data = text.slice(0, end).split("\n").filter((line) => line.startsWith("data:"));
          if (data.length === 0) continue;
          take(JSON.parse(data.map((line) => line.slice(5)).join("\n")));
          showHealth(parts, true);
          wait = 500;
        }
      }
    } catch (error) {
      console.info("no live updates:", error.message);
    }
    if (tokenGiven) { await tokenGiven; continue; }
    showHealth(parts, false);
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

/** Shows what the address says: the list, or an objective of an agent. */
function route() {
  const [, kind, name, agent] = location.hash.split("/").map(decodeURIComponent);
  const isDetail = kind === "slo" && name !== undefined;
  $("overview").hidden = isDetail;
  $("detail").hidden = !isDetail;
  if (isDetail) showDetail(name, agent ?? "");
  else leaveDetail();
}

addEventListener("hashchange", () => { route(); $("main").focus(); });
$("endpoint").textContent = location.origin;
route();
listen();

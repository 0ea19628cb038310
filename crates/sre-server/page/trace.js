// The traces of an objective's bad and slow tasks, and the view of one: a waterfall of its spans.
import { $, dollars, element, number, request, table } from "./base.js";

/** The deepest level that is indented further than the one above. */
const MAX_INDENT = 16;

let current;

export function hideTrace() {
  current = undefined;
}

/** Returns the address of the view of a trace. */
const address = (name, agent, id) => `#/slo/${encodeURIComponent(name)}/${encodeURIComponent(agent)}/trace/${id}`;

/** Returns a section that lists the traces of an objective's last bad and slow tasks. */
export async function traceList(name, agent) {
  const query = new URLSearchParams({ slo: name, agent });
  const { traces } = await (await request(`/v1/traces?${query}`)).json();
  const section = element("section");
  section.append(element("h3", "Bad and slow tasks"));
  if (!traces.length) {
    section.append(element("p", "None so far.", "muted"));
    return section;
  }
  const rows = traces.map((trace) => {
    const link = element("a", trace.task ?? trace.trace_id);
    link.href = address(name, agent, trace.trace_id);
    const verdict = trace.bad ? element("span", "bad", "badge critical") : element("span", "slow", "badge warning");
    return [link, verdict, new Date(trace.start).toLocaleString(), duration(trace.duration_ms), number(trace.spans), number(trace.errors), cost(trace.cost_usd)];
  });
  section.append(table(["Task", "Verdict", "Began", "Duration", "Spans", "Errors", "Cost"], rows, "Table of bad and slow tasks", "tasks"));
  return section;
}

export async function showTrace(name, agent, id) {
  current = id;
  const back = element("a", `← ${name}${agent && ` of ${agent}`}`);
  back.href = `#/slo/${encodeURIComponent(name)}/${encodeURIComponent(agent)}`;
  const line = element("p");
  line.append(back);
  try {
    const trace = await (await request(`/v1/traces/${encodeURIComponent(id)}`)).json();
    if (current === id) $("detail").replaceChildren(line, ...view(trace));
  } catch (error) {
    if (current === id) $("detail").replaceChildren(line, element("p", error.message));
  }
}

function view(trace) {
  const task = trace.nodes.find((node) => node.task)?.task;
  const tokens = trace.input_tokens + trace.output_tokens;
  const [start, end] = [milliseconds(trace.start), milliseconds(trace.end)];
  const facts = [
    duration(end - start), counted(trace.nodes.length, "span", "spans"), trace.errors && counted(trace.errors, "error", "errors"),
    trace.retries && counted(trace.retries, "retry", "retries"), tokens && counted(tokens, "token", "tokens"), trace.cost_usd && dollars(trace.cost_usd),
  ];
  const parents = [];
  const rows = trace.nodes.map((node) => {
    parents.length = node.depth;
    const above = parents.at(-1);
    parents.push(node);
    return row(node, above, start, Math.max(end - start, 1e-6));
  });
  const columns = ["Span", "Timeline", "Duration", "Self", "Tokens", "Cost"];
  const shown = [
    element("h2", task ? `Task ${task}` : `Trace ${trace.trace_id}`),
    element("p", facts.filter(Boolean).join(", ")),
    element("p", `Trace ${trace.trace_id}, began ${new Date(start).toLocaleString()}`, "muted"),
    table(columns, rows, "Waterfall of the spans", "waterfall"),
    element("p", "Full colour: on the critical path. Faded: beside it. Red: failed.", "muted"),
  ];
  if (trace.broken_hops.length) {
    const list = element("ul");
    list.append(...trace.broken_hops.map((hop) => element("li", brokenHop(hop))));
    shown.push(element("h3", "Broken hops"), list);
  }
  return shown;
}

function row(node, above, start, total) {
  const took = milliseconds(node.end) - milliseconds(node.start);
  const name = element("span", node.error ? `✗ ${node.name}` : node.name, node.error ? "critical" : undefined);
  const label = element("div");
  label.style.paddingLeft = `${Math.min(node.depth, MAX_INDENT) * 1.1}rem`;
  label.append(name);
  if (node.attempt_number) label.append(element("span", ` attempt ${node.attempt_number}`, "muted"));
  const by = recordedBy(node);
  if (by && by !== recordedBy(above)) label.append(element("span", ` [${by}]`, "muted"));
  if (node.error && node.error !== "failed") label.append(element("small", node.error, "critical"));
  const bar = element("i", undefined, [node.error ? "failed" : "", node.critical_ms === undefined ? "beside" : ""].join(" ").trim());
  bar.style.left = `${((milliseconds(node.start) - start) / total) * 100}%`;
  bar.style.width = `${(Math.max(took, 0) / total) * 100}%`;
  const lane = element("div", undefined, "lane");
  lane.title = `${node.name}: ${duration(took)}, of which ${duration(node.self_ms)} itself${node.error ? `, failed: ${node.error}` : ""}`;
  lane.append(bar);
  const tokens = node.branch_input_tokens + node.branch_output_tokens;
  return [label, lane, duration(took), duration(node.self_ms), tokens ? number(tokens) : "", cost(node.branch_cost_usd)];
}

function brokenHop(hop) {
  const span = (of) => `${of.name}${of.agent ? ` of ${of.agent}` : ""}`;
  switch (hop.reason) {
    case "missing_parent": return `Span ${hop.parent_span_id} was not recorded; below it: ${hop.spans.map(span).join(", ")}.`;
    case "dropped_context": return `${span(hop.caller)} in trace ${hop.caller.trace_id} was ${hop.inferred ? "probably " : ""}received as ${span(hop.receiver)} in another trace, ${hop.receiver.trace_id}.`;
    default: return `${span(hop.span)} is below itself.`;
  }
}

const recordedBy = (span) => span?.agent ?? span?.service;
const cost = (usd) => (usd ? dollars(usd) : "");
const counted = (count, one, many) => `${number(count)} ${count === 1 ? one : many}`;

/** Returns a time in milliseconds, with its fraction, which `Date` has not. */
function milliseconds(time) {
  const [, seconds, fraction] = /^(.*?)(\.\d+)?Z$/.exec(time);
  return Date.parse(`${seconds}Z`) + Number(`0${fraction ?? ""}`) * 1000;
}

function duration(ms) {
  if (ms < 1_000) return `${+ms.toPrecision(3)} ms`;
  if (ms < 60_000) return `${+(ms / 1_000).toPrecision(3)} s`;
  const seconds = Math.round(ms / 1_000);
  return seconds % 60 ? `${Math.floor(seconds / 60)} min ${seconds % 60} s` : `${seconds / 60} min`;
}

// The overview: objectives, alerts, breakers, agents and costs.
import { $, dollars, element, number, percent, rate, since, statusText, timeToExhaustion } from "./base.js";

const SVG = "http://www.w3.org/2000/svg";
const URGENCY = ["exhausted", "critical", "warning", "unknown", "healthy"];

/** Returns a bar with a text alternative. */
function bar(share, label) {
  const created = element("div", undefined, "bar");
  created.setAttribute("role", "img");
  created.setAttribute("aria-label", label);
  const fill = element("i");
  fill.style.width = `${Math.min(100, Math.max(0, (share ?? 0) * 100))}%`;
  created.append(fill);
  return created;
}

/** The row of an objective. */
class Row {
  constructor(key) {
    this.key = key;
    this.item = element("li", undefined, "slo");
    this.badge = element("span", "", "badge");
    this.name = element("div", undefined, "name");
    this.link = element("a");
    this.agent = element("span");
    this.name.append(this.link, " ", this.agent);
    this.budget = element("div");
    this.burnDown = document.createElementNS(SVG, "svg");
    this.burnDown.setAttribute("class", "burn-down");
    this.burnDown.setAttribute("viewBox", "0 0 100 100");
    this.burnDown.setAttribute("preserveAspectRatio", "none");
    this.burnDown.setAttribute("role", "img");
    this.burn = element("div", undefined, "burn");
    this.item.append(this.badge, this.name, this.budget, this.burnDown, this.burn);
  }

  show(slo) {
    this.slo = slo;
    this.item.className = `slo ${slo.status}`;
    this.badge.textContent = statusText(slo.status);
    this.link.textContent = slo.name;
    this.link.href = `#/slo/${encodeURIComponent(slo.name)}/${encodeURIComponent(slo.agent)}`;
    this.agent.textContent = slo.agent ? `of ${slo.agent}` : "";
    const budget = slo.budget_indicator ? `the budget of ${slo.budget_indicator}` : "the budget";
    const remaining = slo.remaining === null ? "no events yet" : `${percent(slo.remaining, 1)} of ${budget} remaining`;
    const words = element("span", [remaining, timeToExhaustion(slo.spent_in_s)].filter(Boolean).join(", "));
    this.budget.replaceChildren(bar(slo.remaining, remaining), words);
    this.drawBurnDown(slo.history);
    this.burn.replaceChildren(...this.burnRates(slo));
    this.text = `${slo.name} ${slo.agent} ${slo.status}`.toLowerCase();
  }

  drawBurnDown(remaining) {
    const lowest = Math.min(0, ...remaining);
    const y = (left) => (100 - ((left - lowest) / (1000 - lowest)) * 96 - 2).toFixed(1);
    const step = 100 / Math.max(1, remaining.length - 1);
    const zero = document.createElementNS(SVG, "line");
    for (const [name, value] of [["x1", 0], ["x2", 100], ["y1", y(0)], ["y2", y(0)]]) zero.setAttribute(name, value);
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", remaining.map((left, at) => `${at ? "L" : "M"}${(at * step).toFixed(1)} ${y(left)}`).join(""));
    const last = remaining.at(-1);
    const words = last === undefined ? "no burn-down" : `burn-down over ${this.slo.window}, from 100 % to ${percent(last / 1000, 1)}`;
    this.burnDown.setAttribute("aria-label", words);
    this.burnDown.replaceChildren(zero, path);
  }

  burnRates(slo) {
    const shown = slo.reasons.map((reason) => element("b", reason));
    shown.push(element("span", `${percent(slo.sli)} good of ${number(slo.good + slo.bad)}, target ${percent(slo.target)}`));
    const seen = new Map();
    for (const alert of slo.alerts) {
      const known = seen.get(alert.long_window);
      if (!known || alert.firing) seen.set(alert.long_window, { ...alert, firing: alert.firing || known?.firing });
    }
    for (const alert of seen.values()) {
      const of = slo.budget_indicator ? `${slo.budget_indicator} ` : "";
      const text = `${of}burn rate ${alert.judged_window} ${rate(alert.rate)} (threshold ${rate(alert.threshold)})`;
      shown.push(element(alert.firing ? "b" : "span", alert.firing ? `${text}, firing` : text));
    }
    return shown;
  }
}

const rows = new Map();

/** What the service sends of the objectives: the most urgent ones that match the filter. */
export const view = { filter: "", limit: 100 };
const STEP = 100;
const MAX_LIMIT = 500;
/** How many objectives there are, and how many of them match the filter of the view. */
let counts = { total: 0, matching: 0, statuses: {} };

function changeView(filter, limit) {
  if (filter === view.filter && limit === view.limit) return;
  Object.assign(view, { filter, limit });
  dispatchEvent(new Event("viewchange"));
}

/** Pending updates by key. They run in slices of a few milliseconds, so that the page stays responsive. */
const jobs = new Map();
const SLICE_MS = 8;

function schedule(key, job) {
  if (jobs.size === 0) requestAnimationFrame(runJobs);
  // Replaces a pending update of the same key.
  jobs.delete(key);
  jobs.set(key, job);
}

function runJobs() {
  const end = performance.now() + SLICE_MS;
  for (const [key, job] of jobs) {
    jobs.delete(key);
    job();
    if (performance.now() > end) break;
  }
  if (jobs.size) requestAnimationFrame(runJobs);
}

export function showOverview(parts, changed, gone) {
  const isSlo = (key) => key.startsWith("slo ");
  for (const key of gone.filter(isSlo)) {
    rows.get(key)?.item.remove();
    rows.delete(key);
  }
  for (const key of gone) jobs.delete(key);
  for (const key of changed) {
    if (!isSlo(key)) continue;
    const slo = parts.get(key);
    schedule(key, () => {
      if (!rows.has(key)) rows.set(key, new Row(key));
      rows.get(key).show(slo);
    });
  }
  if (changed.has("objectives")) counts = parts.get("objectives");
  if (changed.has("objectives") || [...changed, ...gone].some(isSlo) || rows.size === 0) schedule("sort", sortRows);
  if (changed.has("totals")) showTotals(parts.get("totals"));
  if (changed.has("alerts")) showAlerts(parts.get("alerts"));
  if (changed.has("handlers")) showHandlers(parts.get("handlers"));
  if (changed.has("breakers") || changed.has("cascades")) showBreakers(parts.get("breakers"), parts.get("cascades"));
  if (changed.has("agents") || changed.has("costs")) showAgents(parts.get("agents"), parts.get("costs"));
  if (changed.has("costs")) showCosts(parts.get("costs"));
  if (changed.has("exporters")) showExporters(parts.get("exporters"));
}

/** Puts the items in order, moving only those that are out of place. */
function arrange(list, items) {
  let at = list.firstElementChild;
  for (const item of items) {
    if (item === at) at = at.nextElementSibling;
    else list.insertBefore(item, at);
  }
}

/** Sorts objectives by urgency. */
function sortRows() {
  const urgency = (row) => URGENCY.indexOf(row.slo.status);
  const remaining = (row) => row.slo.remaining ?? 1;
  const sorted = [...rows.values()].sort((a, b) =>
    urgency(a) - urgency(b) || remaining(a) - remaining(b) || (a.key < b.key ? -1 : 1));
  arrange($("slos"), sorted.map((row) => row.item));
  const statuses = URGENCY.map((status) => [status, counts.statuses[status]]).filter(([, count]) => count);
  $("summary").textContent = statuses.map(([status, count]) => `${number(count)} ${status}`).join(", ");
  $("no-slos").hidden = counts.total > 0;
  $("more").hidden = counts.matching <= sorted.length;
  $("shown").textContent = `The ${number(sorted.length)} most urgent of ${number(counts.matching)} are shown.`;
  $("show-more").hidden = view.limit >= MAX_LIMIT;
  filterRows();
}

/** Hides the rows that do not match. If the page does not have all objectives, the service selects those that match. */
function filterRows() {
  const filter = $("filter").value;
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows.values()) row.item.hidden = !words.every((word) => row.text.includes(word));
  clearTimeout(filterTimer);
  const hasAll = view.filter === "" && counts.total <= view.limit;
  if (!hasAll) filterTimer = setTimeout(() => changeView(filter.trim(), view.limit), FILTER_DELAY_MS);
}

let filterTimer;
const FILTER_DELAY_MS = 250;

function showTotals(totals) {
  $("totals").textContent = `${number(totals.tasks)} tasks, ${number(totals.failed)} failed · ${number(totals.llm_calls)} model calls · ` +
    `${number(totals.tool_calls)} tool calls · ${dollars(totals.cost_usd)}`;
}

function showAlerts(alerts) {
  $("no-alerts").hidden = alerts.length > 0;
  $("alerts").replaceChildren(...alerts.map(({ at, alert, deliveries, acknowledged }) => {
    const item = element("li", undefined, alert.severity);
    const head = element("p");
    // The numbers of the message are those of then.
    const time = element("time", new Date(at).toLocaleString());
    time.dateTime = at;
    head.append(element("span", alert.severity, "badge"), ` ${alert.title} · `, time);
    const sent = deliveries.map((delivery) => {
      const error = delivery.error ? `: ${delivery.error}` : "";
      return `${delivery.channel} ${delivery.state}${delivery.attempts > 1 ? ` after ${delivery.attempts} attempts` : ""}${error}`;
    });
    if (acknowledged) sent.push(`acknowledged by ${acknowledged.by}`);
    item.append(head, element("p", alert.message), element("p", sent.join(" · ") || "not sent", "muted"));
    return item;
  }));
}

/** Shows the queue of each signal handler. */
function showHandlers(handlers) {
  const texts = handlers.map(({ name, handled, queued, dropped, panicked }) => {
    const problems = [dropped && `${number(dropped)} lost`, panicked && `${number(panicked)} panics`].filter(Boolean);
    return [`${name} ${number(handled)} handled, ${number(queued)} waiting`, ...problems].join(", ");
  });
  $("handlers").textContent = texts.join(" · ");
}

function cells(...values) {
  const row = element("tr");
  row.append(...values.map((value, at) => {
    const cell = element(at ? "td" : "th");
    if (!at) cell.scope = "row";
    cell.append(value);
    return cell;
  }));
  return row;
}

const BREAKER_CLASSES = { closed: "healthy", disabled: "unknown", half_open: "warning", open: "critical", forced_open: "critical" };

/** Shows cascades, and breakers that are not closed before the others. */
function showBreakers(breakers, cascades) {
  $("cascades").replaceChildren(...cascades.map(({ origin, path, open, exposed }) => {
    const item = element("li", undefined, "critical");
    const head = element("p");
    head.append(element("span", "cascade", "badge"), ` from ${origin.kind} ${origin.name}`);
    const targets = path.map(({ kind, name }) => `${kind} ${name}`).join(" → ");
    item.append(head, element("p", `${targets} · open circuits: ${number(open.length)} · callers at risk: ${number(exposed)}`, "muted"));
    return item;
  }));
  const isClosed = (breaker) => breaker.state === "closed";
  const sorted = [...breakers.filter((breaker) => !isClosed(breaker)), ...breakers.filter(isClosed)];
  $("breakers").replaceChildren(...sorted.map((breaker) => {
    const state = element("span", breaker.state.replaceAll("_", " "), `badge ${BREAKER_CLASSES[breaker.state]}`);
    const { calls, failed } = breaker.window ?? {};
    let failures = isClosed(breaker) ? `${number(breaker.failure_count)} consecutive` : "–";
    if (breaker.window) failures = `${percent(calls ? failed / calls : 0, 1)} of ${number(calls)} calls`;
    const probes = breaker.retry_after_s === null ? "–" : `in ${Math.ceil(breaker.retry_after_s)} s`;
    return cells(`${breaker.kind} ${breaker.name}`, state, failures, probes, number(breaker.opened), number(breaker.rejected));
  }));
  $("no-breakers").hidden = breakers.length > 0;
  $("breaker-table").hidden = breakers.length === 0;
}

const EXPORTER_CLASSES = { ok: "healthy", failing: "warning", halted: "critical" };

function showExporters(exporters) {
  $("exporters-section").hidden = exporters.length === 0;
  $("exporters").replaceChildren(...exporters.map((exporter) => {
    const state = element("span", exporter.state, `badge ${EXPORTER_CLASSES[exporter.state]}`);
    return cells(exporter.name, state, number(exporter.sent), number(exporter.rejected), number(exporter.dropped),
      number(exporter.waiting), exporter.error ?? "–");
  }));
}

const COST_LABELS = { throttled: " throttled", killed: " blocked" };

function limitUsage(budget) {
  if (!budget) return "–";
  const share = Number(budget.limit_usd) ? Number(budget.spent_usd) / Number(budget.limit_usd) : 1;
  const holder = element("span", undefined, budget.status);
  const shown = share > 0 && share < 0.001 ? "< 0.1 %" : percent(share, 1);
  const words = `${shown} of ${dollars(budget.limit_usd)}`;
  holder.append(bar(share, words), words, COST_LABELS[budget.status] ?? "");
  return holder;
}

/** Shows agents whose tasks arrive from two sources. */
function showOverlaps(agents) {
  $("overlaps").replaceChildren(...agents.filter((agent) => agent.overlap).map(({ agent, overlap }) => {
    const item = element("li", undefined, "warning");
    const head = element("p");
    head.append(element("span", "counted twice", "badge"), ` ${number(overlap.tasks)} tasks of ${agent}`);
    const formats = overlap.formats.join(" and ");
    item.append(head, element("p", `The same tasks arrive as ${formats}. Send the agent's telemetry from one source only.`, "muted"));
    return item;
  }));
}

const agentRows = new Map();

function showAgents(agents, costs) {
  const budgets = new Map(costs.budgets.filter((budget) => budget.scope === "agent").map((budget) => [budget.name, budget]));
  const known = new Set(agents.map((agent) => agent.agent));
  for (const [name, row] of agentRows) {
    if (known.has(name)) continue;
    row.remove();
    agentRows.delete(name);
    jobs.delete(`agent ${name}`);
  }
  showOverlaps(agents);
  for (const agent of agents) {
    schedule(`agent ${agent.agent}`, () => {
      const budget = budgets.get(agent.agent);
      const row = cells(agent.agent, number(agent.tasks), number(agent.failed), number(agent.llm_calls),
        number(agent.tool_calls), dollars(budget?.spent_usd ?? 0), limitUsage(budget), since(agent.last_event));
      const old = agentRows.get(agent.agent);
      agentRows.set(agent.agent, row);
      if (old) old.replaceWith(row);
      else $("agents").append(row);
    });
  }
  schedule("agents", () => arrange($("agents"), agents.map((agent) => agentRows.get(agent.agent))));
}

function showCosts(costs) {
  const org = costs.budgets.find((budget) => budget.scope === "org");
  const words = `${dollars(org.spent_usd)} of ${dollars(org.limit_usd)} spent by all agents this month`;
  const holder = element("div", undefined, "ok");
  holder.append(bar(Number(org.spent_usd) / Number(org.limit_usd), words), element("span", words));
  $("org").replaceChildren(holder);
  const budgets = new Map(costs.budgets.filter((budget) => budget.scope === "model").map((budget) => [budget.name, budget]));
  $("models").replaceChildren(...Object.entries(costs.models).map(([model, used]) =>
    cells(model, number(used.calls), number(used.errors), number(used.input_tokens), number(used.output_tokens),
      dollars(used.cost_usd), limitUsage(budgets.get(model)))));
  const unpriced = Object.entries(costs.unknown_models).map(([model, calls]) => `${model || "a model without a name"} (${number(calls)} calls)`);
  $("prices").hidden = !costs.prices_as_of;
  $("prices").textContent = `Prices: the public list prices of ${costs.prices_as_of}.`;
  $("unpriced").hidden = unpriced.length === 0;
  $("unpriced").textContent = `No price for ${unpriced.join(", ")}: their cost is not counted. Set the configuration option prices.`;
}

export function showHealth(parts, connected) {
  const health = parts.get("health");
  $("connection").textContent = connected ? "live" : "disconnected, reconnecting";
  const problems = [
    health?.journal && `Journal write failed; agents retry: ${health.journal}`,
    health?.files && `Config reload failed; keeping the previous configuration: ${health.files}`,
  ].filter(Boolean);
  $("problems").hidden = problems.length === 0;
  $("problems").textContent = problems.join(" · ");
}

$("filter").addEventListener("input", filterRows);
$("show-more").addEventListener("click", () => changeView(view.filter, Math.min(view.limit + STEP, MAX_LIMIT)));

// The list of objectives, and what stands below it.
import { $, element } from "./base.js";

const SVG = "http://www.w3.org/2000/svg";
const URGENCY = ["exhausted", "critical", "warning", "unknown", "healthy"];
const SIGNS = { exhausted: "✖", critical: "‼", warning: "!", unknown: "?", healthy: "✓" };

export const percent = (ratio, digits = 2) => (ratio === null || ratio === undefined ? "–" : `${+(ratio * 100).toFixed(digits)} %`);
export const number = (value) => (value ?? 0).toLocaleString("en");
export const rate = (value) => (value === null ? "–" : `${+value.toFixed(value < 10 ? 2 : 0)}`);
export const dollars = (text) => `$${Number(text).toLocaleString("en", { maximumFractionDigits: Number(text) < 1 ? 4 : 2 })}`;

export function since(time) {
  const seconds = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  }
  return `${Math.floor(seconds)} s ago`;
}

/** A bar that says in words what it shows. */
export function bar(share, label) {
  const made = element("div", undefined, "bar");
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", label);
  const fill = element("i");
  fill.style.width = `${Math.min(100, Math.max(0, (share ?? 0) * 100))}%`;
  made.append(fill);
  return made;
}

export const statusText = (status) => `${SIGNS[status] ?? ""} ${status}`;

/** How long the budget lasts, in words. */
export function lasts(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds <= 0) return "spent";
  const days = Math.floor(seconds / 86400);
  const hours = Math.floor((seconds % 86400) / 3600);
  const minutes = Math.max(1, Math.floor((seconds % 3600) / 60));
  return `spent in ${days ? `${days} d ${hours} h` : hours ? `${hours} h ${minutes % 60} min` : `${minutes} min`} at this rate`;
}

/** An objective's row; the parts of it that change. */
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
    this.course = document.createElementNS(SVG, "svg");
    this.course.setAttribute("class", "course");
    this.course.setAttribute("viewBox", "0 0 100 100");
    this.course.setAttribute("preserveAspectRatio", "none");
    this.course.setAttribute("role", "img");
    this.burn = element("div", undefined, "burn");
    this.item.append(this.badge, this.name, this.budget, this.course, this.burn);
  }

  show(slo) {
    this.slo = slo;
    this.item.className = `slo ${slo.status}`;
    this.badge.textContent = statusText(slo.status);
    this.link.textContent = slo.name;
    this.link.href = `#/slo/${encodeURIComponent(slo.name)}/${encodeURIComponent(slo.agent)}`;
    this.agent.textContent = slo.agent ? `of ${slo.agent}` : "";
    const left = slo.remaining === null ? "no events yet" : `${percent(slo.remaining, 1)} of the budget left`;
    const words = element("span", [left, lasts(slo.spent_in_s)].filter(Boolean).join(", "));
    this.budget.replaceChildren(bar(slo.remaining, left), words);
    this.drawCourse(slo.course);
    this.burn.replaceChildren(...this.burns(slo));
    this.words = `${slo.name} ${slo.agent} ${slo.status}`.toLowerCase();
  }

  drawCourse(course) {
    const lowest = Math.min(0, ...course);
    const y = (left) => (100 - ((left - lowest) / (1000 - lowest)) * 96 - 2).toFixed(1);
    const step = 100 / Math.max(1, course.length - 1);
    const zero = document.createElementNS(SVG, "line");
    for (const [name, value] of [["x1", 0], ["x2", 100], ["y1", y(0)], ["y2", y(0)]]) zero.setAttribute(name, value);
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", course.map((left, at) => `${at ? "L" : "M"}${(at * step).toFixed(1)} ${y(left)}`).join(""));
    const last = course.at(-1);
    const words = last === undefined ? "no burn-down" : `burn-down over ${this.slo.window}, from 100 % to ${percent(last / 1000, 1)}`;
    this.course.setAttribute("aria-label", words);
    this.course.replaceChildren(zero, path);
  }

  burns(slo) {
    const facts = [`${percent(slo.sli)} good of ${number(slo.good + slo.bad)}, target ${percent(slo.target)}`];
    const made = facts.map((text) => element("span", text));
    const seen = new Map();
    for (const alert of slo.alerts) {
      const known = seen.get(alert.long_window);
      if (!known || alert.firing) seen.set(alert.long_window, { ...alert, firing: alert.firing || known?.firing });
    }
    for (const alert of seen.values()) {
      const burnt = slo.burn_rates.find((burn) => burn.window === alert.long_window);
      const text = `burn ${alert.long_window} ${rate(burnt?.rate ?? null)} of ${rate(alert.threshold)}`;
      made.push(element(alert.firing ? "b" : "span", alert.firing ? `${text}, alerting` : text));
    }
    return made;
  }
}

const rows = new Map();

/** What is still to be shown, by what it is about: so much at a time that the page never stands still. */
const jobs = new Map();
const SLICE_MS = 8;

function later(about, job) {
  if (jobs.size === 0) requestAnimationFrame(work);
  // What was to be shown of it before is out of date.
  jobs.delete(about);
  jobs.set(about, job);
}

function work() {
  const end = performance.now() + SLICE_MS;
  for (const [about, job] of jobs) {
    jobs.delete(about);
    job();
    if (performance.now() > end) break;
  }
  if (jobs.size) requestAnimationFrame(work);
}

export function showList(parts, changed, gone) {
  const isSlo = (key) => key.startsWith("slo ");
  for (const key of gone.filter(isSlo)) {
    rows.get(key)?.item.remove();
    rows.delete(key);
  }
  for (const key of gone) jobs.delete(key);
  for (const key of changed) {
    if (!isSlo(key)) continue;
    const slo = parts.get(key);
    later(key, () => {
      if (!rows.has(key)) rows.set(key, new Row(key));
      rows.get(key).show(slo);
    });
  }
  if ([...changed, ...gone].some(isSlo) || rows.size === 0) later("order", order);
  if (changed.has("totals")) showTotals(parts.get("totals"));
  if (changed.has("alerts")) showAlerts(parts.get("alerts"));
  if (changed.has("agents") || changed.has("costs")) showAgents(parts.get("agents"), parts.get("costs"));
  if (changed.has("costs")) showCosts(parts.get("costs"));
}

/** Moves only what is not where it belongs. */
function arrange(list, items) {
  let at = list.firstElementChild;
  for (const item of items) {
    if (item === at) at = at.nextElementSibling;
    else list.insertBefore(item, at);
  }
}

/** The most urgent first. */
function order() {
  const urgency = (row) => URGENCY.indexOf(row.slo.status);
  const left = (row) => row.slo.remaining ?? 1;
  const sorted = [...rows.values()].sort((a, b) =>
    urgency(a) - urgency(b) || left(a) - left(b) || (a.key < b.key ? -1 : 1));
  arrange($("slos"), sorted.map((row) => row.item));
  const counts = URGENCY.map((status) => [status, sorted.filter((row) => row.slo.status === status).length]);
  $("summary").textContent = counts.filter(([, count]) => count).map(([status, count]) => `${count} ${status}`).join(", ");
  $("no-slos").hidden = sorted.length > 0;
  find();
}

function find() {
  const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows.values()) row.item.hidden = !words.every((word) => row.words.includes(word));
}

function showTotals(totals) {
  $("totals").textContent = `${number(totals.tasks)} tasks, ${number(totals.failed)} failed · ${number(totals.llm_calls)} model calls · ` +
    `${number(totals.tool_calls)} tool calls · ${dollars(totals.cost_usd)}`;
}

function showAlerts(alerts) {
  $("no-alerts").hidden = alerts.length > 0;
  $("alerts").replaceChildren(...alerts.map(({ at, alert, deliveries, acknowledged }) => {
    const item = element("li", undefined, alert.severity);
    const head = element("p");
    const time = element("time", since(at));
    time.dateTime = at;
    time.title = new Date(at).toLocaleString();
    head.append(element("span", alert.severity, "badge"), ` ${alert.title} · `, time);
    const sent = deliveries.map((delivery) => {
      const error = delivery.error ? `: ${delivery.error}` : "";
      return `${delivery.channel} ${delivery.state}${delivery.attempts > 1 ? ` after ${delivery.attempts} attempts` : ""}${error}`;
    });
    if (acknowledged) sent.push(`taken on by ${acknowledged.by}`);
    item.append(head, element("p", alert.message), element("p", sent.join(" · ") || "sent nowhere", "soft"));
    return item;
  }));
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

function ofLimit(budget) {
  if (!budget) return "–";
  const share = Number(budget.limit_usd) ? Number(budget.spent_usd) / Number(budget.limit_usd) : 1;
  const holder = element("span", undefined, budget.status);
  const shown = share > 0 && share < 0.001 ? "< 0.1 %" : percent(share, 1);
  const words = `${shown} of ${dollars(budget.limit_usd)}`;
  holder.append(bar(share, words), words, budget.status === "ok" ? "" : ` ${budget.status}`);
  return holder;
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
  for (const agent of agents) {
    later(`agent ${agent.agent}`, () => {
      const budget = budgets.get(agent.agent);
      const row = cells(agent.agent, number(agent.tasks), number(agent.failed), number(agent.llm_calls),
        number(agent.tool_calls), dollars(budget?.spent_usd ?? 0), ofLimit(budget), since(agent.last_event));
      const old = agentRows.get(agent.agent);
      agentRows.set(agent.agent, row);
      if (old) old.replaceWith(row);
      else $("agents").append(row);
    });
  }
  // They come by name.
  later("agents", () => arrange($("agents"), agents.map((agent) => agentRows.get(agent.agent))));
}

function showCosts(costs) {
  const org = costs.budgets.find((budget) => budget.scope === "org");
  const words = `${dollars(org.spent_usd)} of ${dollars(org.limit_usd)} spent by everybody this month`;
  const holder = element("div", undefined, "ok");
  holder.append(bar(Number(org.spent_usd) / Number(org.limit_usd), words), element("span", words));
  $("org").replaceChildren(holder);
  const budgets = new Map(costs.budgets.filter((budget) => budget.scope === "model").map((budget) => [budget.name, budget]));
  $("models").replaceChildren(...Object.entries(costs.models).map(([model, used]) =>
    cells(model, number(used.calls), number(used.errors), number(used.input_tokens), number(used.output_tokens),
      dollars(used.cost_usd), ofLimit(budgets.get(model)))));
  const unpriced = Object.entries(costs.unknown_models).map(([model, calls]) => `${model || "a model without a name"} (${number(calls)} calls)`);
  $("unpriced").hidden = unpriced.length === 0;
  $("unpriced").textContent = `No price is known for ${unpriced.join(", ")}: what that cost is not counted. A file of prices helps.`;
}

export function showHealth(parts, connected) {
  const health = parts.get("health");
  $("connection").textContent = connected ? "live" : "no connection: trying again";
  const trouble = [
    health?.journal && `What agents send cannot be kept: ${health.journal}`,
    health?.files && `The settings' files cannot be used, those from before are: ${health.files}`,
  ].filter(Boolean);
  $("trouble").hidden = trouble.length === 0;
  $("trouble").textContent = trouble.join(" · ");
}

$("find").addEventListener("input", find);

// The view of one objective of an agent: its numbers and their history.
import { $, amount, element, number, percent, rate, request, statusText, timeToExhaustion } from "./base.js";
import { traceList } from "./trace.js";

const WINDOWS = ["1h", "6h", "24h", "7d", "30d"];
const seconds = (window) => parseInt(window) * (window.endsWith("d") ? 86400 : 3600);
const REFRESH_MS = 5_000;

let currentKey;
let selectedWindow = "24h";
/** The user changed the time range, so the charts are drawn again even under the pointer. */
let windowChanged = false;
let charts = [];
/** The section with the traces of the objective. */
let traces;
let timer;

export function hideDetail() {
  clearTimeout(timer);
  currentKey = undefined;
  charts.forEach((chart) => chart.destroy());
  charts = [];
  traces = undefined;
  $("detail").replaceChildren();
}

export async function showDetail(name, agent) {
  const key = `${name}\n${agent}`;
  if (currentKey !== key) hideDetail();
  currentKey = key;
  clearTimeout(timer);
  try {
    const path = `/v1/slos/${encodeURIComponent(name)}?agent=${encodeURIComponent(agent)}&window=${selectedWindow}`;
    const [{ slos }, listed] = await Promise.all([request(path).then((answer) => answer.json()), traceList(name, agent)]);
    if (currentKey !== key) return;
    // The section on the page stays while it is up to date.
    if (listed.textContent !== traces?.textContent) traces = listed;
    if (slos.length) show(slos[0]);
    else $("detail").replaceChildren(element("p", `There is no objective ${name} of agent ${agent}.`));
  } catch (error) {
    if (currentKey === key && !charts.length) $("detail").replaceChildren(element("p", error.message));
  }
  if (currentKey === key) timer = setTimeout(() => showDetail(name, agent), REFRESH_MS);
}

function show(slo) {
  // A chart that is zoomed or under the pointer is not redrawn.
  if (charts.some((chart) => chart.isZoomed || (chart.cursor.left >= 0 && !windowChanged))) return;
  windowChanged = false;
  const focused = document.activeElement?.dataset?.window;
  const link = traces.contains(document.activeElement) ? document.activeElement : undefined;
  const open = [...document.querySelectorAll("#detail details")].map((details) => details.open);
  charts.forEach((chart) => chart.destroy());
  charts = [];
  const back = element("a", "← All objectives");
  back.href = "#/";
  const title = element("h2", slo.agent ? `${slo.name} of ${slo.agent} ` : `${slo.name} `);
  title.append(element("span", statusText(slo.status), `badge ${slo.status}`));
  const line = element("p");
  line.append(back);
  $("detail").replaceChildren(line, title, element("p", slo.description, "muted"), facts(slo), traces, windows(slo));
  const { events, indicators } = slo.history;
  // uPlot needs a value for each time; buckets without events have no ratio.
  const total = events.good.map((good, at) => good + events.bad[at]);
  chart("Error ratio", events.at, [
    { label: "bad", values: total.map((all, at) => (all ? (events.bad[at] / all) * 100 : null)), color: "--critical", bars: true },
  ], "%", 0);
  if (slo.error_budget.total) {
    const allowed = total.reduce((sum, all) => sum + all, 0) * slo.error_budget.total;
    let bad = 0;
    const remaining = events.bad.map((count) => (bad += count, allowed ? (1 - bad / allowed) * 100 : null));
    const title = slo.window === slo.history.window ? "Budget remaining" : `Budget remaining, scaled to ${slo.history.window}`;
    chart(title, events.at, [{ label: "remaining", values: remaining, color: "--healthy" }], "%");
  }
  const columns = Object.keys(indicators?.values ?? {});
  for (const indicator of slo.indicators) {
    const percentiles = columns.filter((column) => column.startsWith(`${indicator.name} p`));
    const own = percentiles.length ? percentiles : columns.filter((column) => column === indicator.name);
    const colors = ["--healthy", "--warning", "--critical"];
    const scale = indicator.measure === "ratio" ? 100 : 1;
    const unit = { ratio: "%", milliseconds: "ms", usd: "$", count: "", difference: "" }[indicator.measure];
    const series = own.map((column, at) => ({
      label: column.slice(indicator.name.length).trim() || "value",
      values: indicators.values[column].map((value) => (value === null ? null : value * scale)),
      color: colors[at % colors.length],
    }));
    if (series.length) chart(indicator.name.replaceAll("_", " "), indicators.at, series, unit, percentiles.length ? 0 : undefined);
  }
  document.querySelectorAll("#detail details").forEach((details, at) => { details.open = open[at] ?? false; });
  link?.focus();
  if (focused) document.querySelector(`[data-window="${focused}"]`)?.focus();
}

/** Formats the value and the target of an indicator, with as many digits as tell them apart. */
function valueAndTarget({ value, target, measure }) {
  const text = (of, more) => {
    if (of === null || of === undefined) return "no data";
    switch (measure) {
      case "ratio": case "difference": return percent(of, 2 + more);
      case "milliseconds": return `${of.toLocaleString("en", { maximumFractionDigits: (Math.abs(of) < 10 ? 2 : 0) + more })} ms`;
      case "usd": return `$${amount(of, more)}`;
      default: return amount(of, more);
    }
  };
  const texts = (more) => [text(value, more), text(target, more)];
  const isRounding = Math.abs(value - target) <= 1e-9 * Math.max(Math.abs(value), Math.abs(target));
  for (let more = 0; more < 10 && !isRounding; more++) {
    if (texts(more)[0] !== texts(more)[1]) return texts(more);
  }
  return texts(0);
}

function facts(slo) {
  const budget = slo.error_budget;
  const list = element("dl", undefined, "facts");
  const add = (term, text) => {
    const pair = element("div");
    pair.append(element("dt", term), element("dd", text));
    list.append(pair);
  };
  add("Good", `${percent(slo.sli)} of ${number(slo.good + slo.bad)}, target ${percent(slo.target)} over ${slo.window}`);
  if (slo.interval) add("95 % interval", `${percent(slo.interval[0])} to ${percent(slo.interval[1])}`);
  const owner = slo.indicators.find((indicator) => indicator.shares_budget);
  const of = owner ? ` of ${owner.name.replaceAll("_", " ")}` : "";
  add(`Budget remaining${of}`, [percent(budget.remaining, 1), timeToExhaustion(budget.spent_in_s)].filter(Boolean).join(", "));
  for (const alert of slo.alerts) {
    add(`Burn rate${of} over ${alert.judged_window} (${alert.severity} at ${rate(alert.threshold)})`,
      `${rate(alert.rate)}${alert.firing ? ", firing" : ""}`);
  }
  for (const indicator of slo.indicators) {
    const comparison = indicator.goal === "at_least" ? "≥" : "≤";
    const left = indicator.error_budget?.remaining;
    const [value, target] = valueAndTarget(indicator);
    const facts = [`${value}, target ${comparison} ${target}`];
    if (indicator.shares_budget) facts.push("counts for the budget of the objective");
    else if (left !== null && left !== undefined) facts.push(left < 0 ? `budget overspent by ${percent(-left, 1)}` : `${percent(left, 1)} of its budget left`);
    for (const alert of indicator.shares_budget ? [] : indicator.alerts ?? []) {
      if (alert.firing) facts.push(`burn rate ${rate(alert.rate)} over ${alert.judged_window} (${alert.severity} at ${rate(alert.threshold)})`);
    }
    const spentIn = indicator.error_budget?.spent_in_s;
    if (!indicator.shares_budget && spentIn > 0) facts.push(timeToExhaustion(spentIn));
    if (indicator.status && indicator.status !== "healthy") facts.push(indicator.reason ?? indicator.status);
    add(`${indicator.name.replaceAll("_", " ")}, ${indicator.window}`, facts.join(", "));
  }
  add("Exhaustion action", slo.exhaustion_action.replaceAll("_", " "));
  return list;
}

function windows(slo) {
  const group = element("div", undefined, "windows");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "Time range");
  for (const window of WINDOWS) {
    const button = element("button", window);
    button.dataset.window = window;
    button.setAttribute("aria-pressed", window === selectedWindow);
    button.addEventListener("click", () => {
      [selectedWindow, windowChanged] = [window, true];
      charts.forEach((chart) => { chart.isZoomed = false; });
      showDetail(slo.name, slo.agent);
    });
    group.append(button);
  }
  const reset = element("button", "Reset zoom");
  reset.id = "reset";
  reset.hidden = true;
  reset.addEventListener("click", () => {
    windowChanged = true;
    charts.forEach((chart) => { chart.isZoomed = false; });
    showDetail(slo.name, slo.agent);
  });
  group.append(reset);
  return group;
}

/** Adds a chart with values at the cursor, zoom by dragging, and a table of its data. */
function chart(title, at, series, unit, minimum) {
  const holder = element("div", undefined, "chart");
  $("detail").append(element("h3", title), holder);
  const values = series.flatMap((one) => one.values).filter((value) => value !== null);
  if (!values.length) {
    holder.append(element("p", "No data in this time range.", "muted"));
    return;
  }
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const text = (value) => (value === null || value === undefined ? "–" : `${amount(value)} ${unit}`.trim());
  const axis = { stroke: color("--muted"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line") } };
  // The axis covers the whole time range, even where there is no data.
  const to = Date.now() / 1000;
  const padded = [[to - seconds(selectedWindow), ...at, to], ...series.map((one) => [null, ...one.values, null])];
  const plot = new uPlot({
    width: holder.clientWidth - 16,
    height: 190,
    cursor: { sync: { key: "objective" }, drag: { x: true, y: false }, dataIdx: nearestValue },
    scales: { y: { range: (_, low, high) => [minimum ?? Math.min(low, 0), Math.max(high, (minimum ?? low) + 1) * 1.05] } },
    axes: [axis, { ...axis, size: axisWidth, values: (_, ticks) => ticks.map(text) }],
    series: [{ label: "time" }, ...series.map((one) => ({
      label: one.label,
      stroke: color(one.color),
      fill: one.bars ? `${color(one.color)}66` : undefined,
      paths: one.bars ? uPlot.paths.bars({ size: [0.8, 40], align: 1 }) : undefined,
      width: one.bars ? 1 : 1.5,
      spanGaps: true,
      points: { show: !one.bars && values.length < 60, size: 4 },
      value: (_, value) => text(value),
    }))],
    hooks: { setSelect: [(own) => {
      if (own.select.width > 0) {
        charts.forEach((chart) => { chart.isZoomed = true; });
        $("reset").hidden = false;
      }
    }] },
  }, padded, holder);
  plot.root.setAttribute("role", "img");
  const last = series.map((one) => `${one.label} ${text(one.values.findLast((value) => value !== null))}`).join(", ");
  plot.root.setAttribute("aria-label", `${title}: latest ${last}; the table below has all values`);
  charts.push(plot);
  holder.append(table(at, series, text));
}

/** Returns the width of a vertical axis: that of its longest label, and the space around it. */
function axisWidth(plot, labels, index, cycle) {
  const axis = plot.axes[index];
  // uPlot asks again if the width has changed its labels; the second answer is final, so that it ends.
  if (cycle > 1) return axis._size;
  plot.ctx.font = axis.font[0];
  const longest = Math.max(0, ...(labels ?? []).map((label) => plot.ctx.measureText(label).width));
  return Math.ceil(axis.ticks.size + axis.gap + longest / devicePixelRatio);
}

/** Returns the index of the value nearest to the cursor, skipping gaps. */
function nearestValue(plot, series, at) {
  const values = plot.data[series];
  const hasValue = (number) => values[number] !== null && values[number] !== undefined;
  for (let distance = 0; series > 0 && distance < values.length; distance += 1) {
    if (hasValue(at - distance)) return at - distance;
    if (hasValue(at + distance)) return at + distance;
  }
  return at;
}

function table(at, series, text) {
  const details = element("details");
  details.append(element("summary", "As a table"));
  // Built when it is first opened.
  details.addEventListener("toggle", () => {
    if (!details.open || details.querySelector("table")) return;
    const made = element("table");
    const head = made.createTHead().insertRow();
    for (const name of ["time", ...series.map((one) => one.label)]) head.append(element("th", name));
    const body = made.createTBody();
    at.forEach((time, number) => {
      const measured = series.map((one) => one.values[number]);
      if (measured.every((value) => value === null)) return;
      const row = body.insertRow();
      row.append(element("td", new Date(time * 1000).toLocaleString()), ...measured.map((value) => element("td", text(value))));
    });
    const holder = element("div", undefined, "scroll");
    holder.append(made);
    details.append(holder);
  });
  return details;
}

addEventListener("resize", () => {
  for (const chart of charts) chart.setSize({ width: chart.root.parentElement.clientWidth - 16, height: 190 });
});

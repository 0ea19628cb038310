// Circuit breakers that are not closed, and the current cascade.
import { $, element } from "./base.js";
import { number } from "./list.js";

const STATES = { open: "open", half_open: "half-open", forced_open: "forced open", disabled: "disabled" };
const SEVERITIES = { open: "critical", half_open: "warning", forced_open: "critical", disabled: "unknown" };
const nameOf = ({ kind, name }) => `${kind} ${name}`;

export function showGuards(breakers, cascades) {
  const notClosed = breakers.filter((breaker) => breaker.state !== "closed");
  $("guards").hidden = notClosed.length === 0 && cascades.length === 0;
  $("cascades").replaceChildren(...cascades.map(cascadeItem));
  $("breakers").replaceChildren(...notClosed.map(breakerItem));
}

function item(severity, badge, title, facts) {
  const made = element("li", undefined, severity);
  const head = element("p");
  head.append(element("span", badge, "badge"), ` ${title}`);
  made.append(head, element("p", facts.filter(Boolean).join(" · "), "soft"));
  return made;
}

function breakerItem(breaker) {
  const { window, retry_after_s: retryAfter } = breaker;
  const failures = window
    ? `${number(window.failed)} of ${number(window.calls)} calls failed`
    : breaker.failure_count > 0 && `${number(breaker.failure_count)} consecutive failures`;
  const retry = retryAfter !== null && `probe calls in ${Math.ceil(retryAfter)} s`;
  const opened = `opened ${number(breaker.opened)} ${breaker.opened === 1 ? "time" : "times"}`;
  return item(SEVERITIES[breaker.state], STATES[breaker.state], nameOf(breaker), [failures, retry, opened]);
}

function cascadeItem(cascade) {
  const open = cascade.open.length && `open circuits: ${number(cascade.open.length)}`;
  return item("critical", "cascade", cascade.path.map(nameOf).join(" → "), [open, `exposed callers: ${number(cascade.exposed)}`]);
}

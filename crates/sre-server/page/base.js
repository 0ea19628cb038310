// Helpers of all modules: elements, requests to the service, and formats.

export const $ = (id) => document.getElementById(id);

/** Returns a new element with a text and an optional class. */
export function element(tag, text, className) {
  const created = document.createElement(tag);
  if (text !== undefined) created.textContent = text;
  if (className) created.className = className;
  return created;
}

/** Returns a table that scrolls on a narrow screen. Cells are texts or elements. */
export function table(columns, rows, label, className) {
  const made = element("table", undefined, className);
  const head = made.createTHead().insertRow();
  for (const column of columns) {
    const cell = element("th", column);
    cell.scope = "col";
    head.append(cell);
  }
  const body = made.createTBody();
  for (const cells of rows) {
    const row = body.insertRow();
    for (const cell of cells) row.insertCell().append(cell);
  }
  const holder = element("div", undefined, "scroll");
  holder.tabIndex = 0;
  holder.setAttribute("role", "region");
  holder.setAttribute("aria-label", label);
  holder.append(made);
  return holder;
}

let token = sessionStorage.getItem("token");

/** Resolves when the user has entered a token; undefined unless the page prompts for one. */
export let tokenEntered;

/** Sends a request to the service, with the token if there is one. */
export async function request(path, options = {}) {
  const headers = token ? { ...options.headers, Authorization: `Bearer ${token}` } : options.headers;
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401 || response.status === 403) {
    askForToken();
    throw new Error("a token is required");
  }
  if (!response.ok) throw new Error((await response.json()).error ?? response.statusText);
  return response;
}

function askForToken() {
  if (tokenEntered) return;
  $("token").hidden = false;
  $("overview").hidden = true;
  $("secret").focus();
  tokenEntered = new Promise((resolve) => {
    $("token").addEventListener("submit", (event) => {
      event.preventDefault();
      token = $("secret").value;
      sessionStorage.setItem("token", token);
      $("secret").value = "";
      $("token").hidden = true;
      tokenEntered = undefined;
      resolve();
      dispatchEvent(new HashChangeEvent("hashchange"));
    }, { once: true });
  });
}

const SIGNS = { exhausted: "✖", critical: "‼", warning: "!", unknown: "?", healthy: "✓" };

export const percent = (ratio, digits = 2) => (ratio === null || ratio === undefined ? "–" : `${+(ratio * 100).toFixed(digits)} %`);
export const number = (value) => (value ?? 0).toLocaleString("en");
export const rate = (value) => (value === null ? "–" : `${+value.toFixed(value < 10 ? 2 : 0)}`);
/** Small amounts keep their digits: $0.0000386 is not $0. */
export const amount = (value, more = 0) =>
  value.toLocaleString("en", Math.abs(value) < 1 ? { maximumSignificantDigits: 3 + more } : { maximumFractionDigits: 2 + more });
export const dollars = (text) => `$${amount(Number(text))}`;

/** Returns how long ago a time was. */
export function since(time) {
  const seconds = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  }
  return `${Math.floor(seconds)} s ago`;
}

export const statusText = (status) => `${SIGNS[status] ?? ""} ${status}`;

/** Returns the time until the error budget is exhausted, in words. */
export function timeToExhaustion(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds <= 0) return "exhausted";
  const days = Math.floor(seconds / 86400);
  const hours = Math.floor((seconds % 86400) / 3600);
  const minutes = Math.max(1, Math.floor((seconds % 3600) / 60));
  return `exhausted in ${days ? `${days} d ${hours} h` : hours ? `${hours} h ${minutes % 60} min` : `${minutes} min`} at this rate`;
}

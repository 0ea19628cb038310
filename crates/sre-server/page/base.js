// What every part of the page uses: elements, and the way to the service.

export const $ = (id) => document.getElementById(id);

/** An element with a text, and if need be a class. */
export function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

let token = sessionStorage.getItem("token");

/** Resolves when a token was given; undefined while none is wanted. */
export let tokenGiven;

/** Asks the service for something, with the token that was given. */
export async function ask(path, options = {}) {
  const headers = token ? { ...options.headers, Authorization: `Bearer ${token}` } : options.headers;
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401 || response.status === 403) {
    wantToken();
    throw new Error("a token is wanted");
  }
  if (!response.ok) throw new Error((await response.json()).error ?? response.statusText);
  return response;
}

function wantToken() {
  if (tokenGiven) return;
  $("token").hidden = false;
  $("overview").hidden = true;
  $("secret").focus();
  tokenGiven = new Promise((resolve) => {
    $("token").addEventListener("submit", (event) => {
      event.preventDefault();
      token = $("secret").value;
      sessionStorage.setItem("token", token);
      $("secret").value = "";
      $("token").hidden = true;
      tokenGiven = undefined;
      resolve();
      dispatchEvent(new HashChangeEvent("hashchange"));
    }, { once: true });
  });
}

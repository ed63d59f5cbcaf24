// All requests to the server. Addresses are relative to the page.

const TOKEN = "foveal-token";
const PATIENCE = 5; // seconds to wait if the server does not say how long
const BUSY = [429, 503];
let askForToken = async () => null;
let token = null;
let asking = null;
let key = null; // of the model whose classes the page has loaded

try {
  token = sessionStorage.getItem(TOKEN);
} catch {
  // Without storage, the token lasts as long as the page.
}

/** A refused or failed request; status 0 means that there was no answer. */
export class Refused extends Error {
  constructor(status, error = {}, seconds = PATIENCE) {
    super(error.what ?? `status ${status}`);
    this.status = status;
    this.code = error.code ?? "";
    this.what = error.what ?? "";
    this.expected = error.expected ?? "";
    this.fix = error.fix ?? "";
    this.seconds = seconds;
  }
}

/** `ask({ wrong })` resolves to the token that the user enters, or null. */
export function whenTokenIsNeeded(ask) {
  askForToken = ask;
}

/** The UTF-8 bytes of a text, one character each: a header can hold only such characters. */
const asHeader = (text) => String.fromCharCode(...new TextEncoder().encode(text));

async function reach(path, { headers = {}, ...options }) {
  const sent = token === null ? headers : { ...headers, Authorization: `Bearer ${asHeader(token)}` };
  try {
    return await fetch(path, { ...options, headers: sent, cache: "no-store" });
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    throw new Refused(0);
  }
}

async function refusal(answer) {
  const body = await answer.json().catch(() => ({}));
  const seconds = Number.parseInt(answer.headers.get("Retry-After") ?? "", 10);
  return new Refused(answer.status, body?.error ?? {}, Number.isNaN(seconds) ? PATIENCE : Math.max(1, seconds));
}

/** Store only tokens that the server has accepted: a wrong one would be sent again on every visit. */
function keepToken(accepted) {
  try {
    if (accepted === null) sessionStorage.removeItem(TOKEN);
    else sessionStorage.setItem(TOKEN, accepted);
  } catch {
    // The token stays in this module.
  }
}

/** Ask the user only once, even if several requests were refused; true if there is a new token. */
async function renewToken(used) {
  if (used !== token) return true;
  keepToken(null);
  asking ??= askForToken({ wrong: used !== null }).finally(() => {
    asking = null;
  });
  token = await asking;
  return token !== null;
}

async function wait(seconds, signal, onWait) {
  for (let left = seconds; left > 0; left -= 1) {
    signal?.throwIfAborted();
    onWait?.(left);
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  signal?.throwIfAborted();
}

/**
 * Send a request, and retry while the server is busy. Calls `onWait(seconds)` every second while waiting, and `onGo()`
 * before each try. `mayAsk`: whether the user may be asked for a token. Throws Refused, or the AbortError of `signal`.
 */
async function ask(path, options = {}, { signal, onWait, onGo, tries = 6, mayAsk = true } = {}) {
  for (let attempt = 1; ; attempt += 1) {
    onGo?.();
    const used = token;
    const answer = await reach(path, { ...options, signal });
    if (answer.ok) {
      keepToken(used);
      return answer;
    }
    const refused = await refusal(answer);
    if (answer.status === 401) {
      if (!mayAsk || !(await renewToken(used))) throw refused;
    } else if (BUSY.includes(answer.status) && attempt < tries) {
      await wait(refused.seconds, signal, onWait);
    } else {
      throw refused;
    }
  }
}

async function read(answer) {
  try {
    return await answer.json();
  } catch {
    throw new Refused(answer.status, {});
  }
}

function parcel(file) {
  const form = new FormData();
  form.append("images", file, file.name);
  return { method: "POST", body: form };
}

export async function getModel() {
  const model = await read(await ask("v1/model"));
  key = model.key;
  return model;
}

/**
 * Grade one photograph with the model that the page has loaded. Retries without limit while the server is busy, because
 * the user can stop it.
 */
export async function grade(file, { similar, ...patience }) {
  const path = `v1/grade?pictures=true&similar=${similar}`;
  const body = await read(await ask(path, parcel(file), { ...patience, tries: Infinity }));
  if (body.key !== key) throw new Refused(409);
  const answer = body.answers?.[0];
  if (answer === undefined) throw new Refused(200);
  if (answer.answer === "unreadable") throw new Refused(422, { code: answer.code, what: answer.reason });
  return answer;
}

export const getReport = async (file, language) =>
  (await ask(`v1/report?language=${language}`, parcel(file))).blob();

const asJson = (values) => ({
  method: "POST", body: JSON.stringify({ ...values, key }), headers: { "Content-Type": "application/json" },
});

export async function saveReview(review, patience) {
  const answer = await ask("v1/reviews", asJson(review), patience);
  if (answer.status !== 201) throw new Refused(answer.status);
  return read(answer);
}

/** `answers`: digest -> `refers_by`. */
export const getCurrent = async (answers, patience) =>
  read(await ask("v1/reviews/current", asJson({ answers }), { ...patience, tries: 2 }));

export const getReviews = async (limit, offset, search) =>
  read(await ask(`v1/reviews?limit=${limit}&offset=${offset}&search=${encodeURIComponent(search)}`));

export const getAllReviews = async () => (await ask("v1/reviews/corrections.csv")).blob();

export const getWorklist = async () => read(await ask("v1/worklist"));

export const getWorklistPhotograph = async (rank) => (await ask(`v1/worklist/${rank}`)).blob();

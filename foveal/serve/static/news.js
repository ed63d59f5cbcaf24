// What the server holds now: reviews that were saved since the answers on this page came.
// Asked after a reload, when a photograph is opened and when the window gets the focus; one request at a time.

import { getCurrent, Refused } from "./api.js";
import { announce, find, show } from "./elements.js";
import { plainly } from "./problems.js";
import { ofPatient, results } from "./results.js";
import { say, sayCount } from "./words.js";

const AT_ONCE = 500; // photographs in a request, as many as the server accepts
const FRESH = 10_000; // ms: when a photograph is opened, the others are asked for too if they are older
const PATIENCE = 15_000; // ms for a request
const SOON = 100; // ms in which several reasons to ask become one
const waiting = new Set();
let onNews = () => null;
let on = false;
let problem = null;
let running = null;
let timer = null;
let mayAsk = false; // for a token: only the user's own click may open a dialog

/** Calls `changed()` when reviews have changed. */
export function begin(reviews, changed) {
  on = reviews;
  onNews = changed;
}

export function draw() {
  show(find("old"), problem !== null);
  find("old-text").textContent = problem === null ? "" : say("news.old", { problem: plainly(problem) });
}

/** Ask for what the server holds of these photographs. */
export function check(some) {
  if (!on || some.length === 0) return;
  for (const one of some) waiting.add(one);
  clearTimeout(timer);
  timer = setTimeout(go, SOON);
}

export const checkAll = () => check(results);

/** Ask for the photographs of a patient, and for all whose state is old. */
export function checkOpened(result) {
  const before = performance.now() - FRESH;
  check([...ofPatient(result), ...results.filter((one) => (one.asked ?? -Infinity) < before)]);
}

async function go() {
  if (running !== null) return;
  running = ask();
  const changed = await running;
  running = null;
  mayAsk = false;
  draw();
  if (changed > 0) {
    onNews();
    announce(find("status"), () => sayCount("news", changed));
  }
  if (waiting.size > 0) go();
}

/** Ask until nothing waits; the number of photographs whose reviews have changed. */
async function ask() {
  let changed = 0;
  try {
    while (waiting.size > 0) {
      const part = [...waiting].slice(0, AT_ONCE);
      for (const one of part) waiting.delete(one);
      changed += await askFor(part);
    }
    problem = null;
  } catch (failure) {
    waiting.clear();
    problem = failure.name === "TimeoutError" ? new Refused(0) : failure;
  }
  return changed;
}

async function askFor(part) {
  const before = new Map(part.map((one) => [one, one.review]));
  const answers = Object.fromEntries(part.map((one) => [one.sha256, one.refers_by ?? null]));
  const held = (await getCurrent(answers, { mayAsk, signal: mayAsk ? undefined : AbortSignal.timeout(PATIENCE) })).answers;
  let changed = 0;
  for (const [one, review] of before) {
    // A review that was saved meanwhile may be newer than this answer of the server: ask again.
    if (one.review !== review) waiting.add(one);
    else changed += take(one, held[one.sha256]);
  }
  return changed;
}

/** Take over the state of one photograph; whether it was another one. */
function take(result, { review, decision }) {
  const same = JSON.stringify(result.decision) === JSON.stringify(decision) && result.review?.id === review?.id;
  result.asked = performance.now();
  if (!same) Object.assign(result, { review, decision });
  return !same;
}

find("old-again").addEventListener("click", () => {
  mayAsk = true;
  checkAll();
});
window.addEventListener("online", checkAll);
window.addEventListener("focus", checkAll);
window.addEventListener("pageshow", (event) => event.persisted && checkAll());
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && checkAll());

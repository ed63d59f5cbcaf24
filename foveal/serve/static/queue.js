// Photographs being sent to the server, two at a time, and failed ones with a way to try again.

import { grade } from "./api.js";
import { announce, find, foreign, make, show } from "./elements.js";
import { plainly } from "./problems.js";
import { languageTag, number, say, sayCount } from "./words.js";

const AT_ONCE = 2;
export const MEGABYTE = 10 ** 6; // bytes, as the server counts
const items = []; // {order, file, state, seconds, problem (a function, so that it follows the language), row}
let settings = { limits: {}, similar: false, take: () => null };
let folds = true; // until the user opens or closes the list
let orders = 0;
let round = { done: 0, total: 0 };
let passedOver = 0; // skipped files of the last drop
let stopping = new AbortController();

const inState = (...states) => items.filter((item) => states.includes(item.state));
export const isBusy = () => inState("waiting", "sending", "pausing").length > 0;

/**
 * `take(answer, file, order)` receives each answer; it returns the result that already has this photograph, or null.
 * `after`: the number of photographs that are here already.
 */
export function begin(given) {
  settings = given;
  orders = Math.max(orders, given.after);
}

function tooLarge(file) {
  const limit = settings.limits?.bytes;
  if (file.size === 0) return () => say("queue.empty");
  if (!limit || file.size <= limit) return null;
  const sizes = { size: number(file.size / MEGABYTE, 1), limit: number(limit / MEGABYTE, 0) };
  return () => say("queue.tooLarge", sizes);
}

/** Add files and start to send them; `passed`: the number of skipped files that came with them. */
export function add(files, passed) {
  if (files.length + passed === 0) return;
  passedOver = passed;
  if (!isBusy()) round = { done: 0, total: 0 };
  for (const file of files) {
    orders += 1;
    const item = { order: orders, file, state: "waiting", seconds: 0, problem: null, row: null };
    items.push(item);
    round.total += 1;
    const problem = tooLarge(file);
    if (problem !== null) fail(item, problem);
  }
  announce(find("status"), () => saidOf(files.length, passed));
  go();
}

function saidOf(added, passed) {
  const said = added > 0 ? [sayCount("queue.added", added)] : [];
  if (passed > 0) said.push(sayCount("queue.passed", passed));
  return said.join(languageTag() === "en" ? " " : "");
}

function go() {
  while (inState("sending", "pausing").length < AT_ONCE) {
    const [next] = inState("waiting");
    if (next === undefined) break;
    next.state = "sending";
    send(next);
  }
  draw();
}

async function send(item) {
  let told = false;
  const onWait = (seconds) => {
    Object.assign(item, { state: "pausing", seconds });
    if (!told) announce(find("status"), () => say("queue.busy", { name: item.file.name, seconds }));
    told = true;
    draw();
  };
  const onGo = () => {
    item.state = "sending";
    draw();
  };
  try {
    const { signal } = stopping;
    const answer = await grade(item.file, { similar: settings.similar, signal, onWait, onGo });
    remove(item);
    const same = await settings.take(answer, item.file, item.order);
    if (same === null) {
      round.done += 1;
    } else {
      items.push(item);
      fail(item, () => say("queue.same", { name: same.name }), "same");
    }
  } catch (problem) {
    if (problem.name === "AbortError") fail(item, () => say("queue.stopped"));
    else fail(item, () => plainly(problem));
  }
  go();
  const over = { ...round };
  if (!isBusy()) announce(find("status"), () => say("queue.finished", over));
}

function fail(item, problem, state = "failed") {
  Object.assign(item, { state, problem });
  if (state === "failed") announce(find("alert"), () => say("queue.problem", { name: item.file.name, problem: problem() }));
}

function remove(item) {
  items.splice(items.indexOf(item), 1);
  item.row?.remove();
  item.row = null;
}

function stop() {
  stopping.abort();
  stopping = new AbortController();
  for (const item of inState("waiting")) fail(item, () => say("queue.stopped"));
  draw();
}

function again(item) {
  if (!isBusy()) round = { done: 0, total: 0 };
  round.total += 1;
  Object.assign(item, { state: "waiting", problem: null });
  find("queue-heading").focus();
  go();
}

function discard(item) {
  remove(item);
  draw();
  if (items.length > 0) find("queue-heading").focus();
  else find("choose").focus();
}

function rowOf(item) {
  const { name } = item.file;
  item.said = make("p", { className: "state" });
  item.again = make("button", { type: "button", className: "quiet", onclick: () => again(item) });
  item.discard = make("button", { type: "button", className: "quiet", onclick: () => discard(item) });
  item.buttons = make("div", { className: "row" }, item.again, item.discard);
  return make("li", {}, make("p", { className: "name" }, foreign(name)), item.said, item.buttons);
}

function drawItem(item) {
  if (item.row === null) {
    item.row = rowOf(item);
    find("queue-items").append(item.row);
  }
  const over = item.problem !== null;
  item.row.className = item.state;
  item.said.textContent = over ? item.problem() : say(`queue.state.${item.state}`, { seconds: item.seconds });
  show(item.buttons, over);
  show(item.again, item.state === "failed");
  for (const [button, key] of [[item.again, "queue.again"], [item.discard, "queue.remove"]]) {
    button.textContent = say(key);
    button.setAttribute("aria-label", say(`${key}Named`, { name: item.file.name }));
  }
}

export function draw() {
  show(find("passed"), passedOver > 0);
  find("passed").textContent = sayCount("queue.passed", passedOver);
  show(find("queue"), items.length > 0);
  items.forEach(drawItem);
  const busy = isBusy();
  const [failed, same] = [inState("failed").length, inState("same").length];
  if (folds) find("queue-fold").open = document.querySelector(".has-results") === null; // leave room for the results
  find("queue-heading").textContent = say(busy ? "queue.heading" : "queue.over");
  const progress = find("progress");
  progress.max = Math.max(1, round.total);
  progress.value = round.done;
  show(progress.parentElement, busy);
  const said = [say("queue.summary", round)];
  if (failed > 0) said.push(sayCount("queue.failed", failed));
  if (same > 0) said.push(sayCount("queue.copies", same));
  find("queue-summary").textContent = said.join(" · ");
  find("queue-summary").classList.toggle("failed", failed > 0);
}

find("queue-heading").tabIndex = -1;
find("queue-summary").addEventListener("click", () => {
  folds = false;
});
find("stop").addEventListener("click", stop);

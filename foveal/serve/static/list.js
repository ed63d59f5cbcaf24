// The list of photographs: one line for each, with search, filter and order. What must be referred comes first.

import { find, foreign, make, show } from "./elements.js";
import { current, disagree, isUnsure, ofPatient, openFirst, referralKind, results, reviewState, select, shortAnswer } from "./results.js";
import { keepForReload, keptForReload } from "./storage.js";
import { say, sayCount } from "./words.js";
import { holds } from "./worklist.js";

const FILTERS = {
  all: () => true,
  refer: (result) => referralKind(result) === "yes",
  open: (result) => result.review === null,
  ungradable: (result) => referralKind(result) === "none",
  unsure: isUnsure,
  disagree,
  unlike: (result) => (result.unlike ?? []).length > 0,
};
const URGENCY = { yes: 0, none: 1, no: 2 };
const TOOLS = "list"; // the name under which a reload finds search, filter and order
const search = find("search");
const filter = find("filter");
const sort = find("sort");
let settings = { reviews: false, onOpen: () => null };

/** Search, filter and order are those before a reload. */
export function begin(given) {
  settings = given;
  const before = keptForReload(TOOLS) ?? {};
  search.value = before.search ?? "";
  for (const tool of [filter, sort]) {
    if ([...tool.options].some((option) => option.value === before[tool.id])) tool.value = before[tool.id];
  }
}

/** Show the list after a change of search, filter or order. */
function changed() {
  keepForReload(TOOLS, { search: search.value, filter: filter.value, sort: sort.value });
  draw();
}

export function orderAsAdded() {
  sort.value = "added";
  changed();
}

/** How urgent the most urgent photograph of the patient is, so that both eyes stay together. */
const urgency = (result) => Math.min(...ofPatient(result).map((one) => URGENCY[referralKind(one)] ?? URGENCY.no));

const byName = (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true });

function byPatient(a, b) {
  const [first, second] = [ofPatient(a), ofPatient(b)];
  if (first.includes(b)) return first.indexOf(a) - first.indexOf(b);
  return urgency(a) - urgency(b) || Math.min(...first.map((one) => one.order)) - Math.min(...second.map((one) => one.order));
}

/** The photographs that the list shows, in its order. */
export function listed() {
  const text = search.value.trim().toLowerCase();
  const found = results.filter((result) => FILTERS[filter.value](result) && result.name.toLowerCase().includes(text));
  if (sort.value === "added") return found;
  return found.toSorted(sort.value === "name" ? byName : byPatient);
}

/** The photograph `distance` lines below the open one; null beyond the list. */
export function beside(distance) {
  const list = listed();
  return list[list.indexOf(current()) + distance] ?? null;
}

/** The next photograph without a review after the open one, continuing from the top; null if there is none. */
export function nextOpen() {
  const list = listed();
  const start = list.indexOf(current()) + 1;
  return [...list.slice(start), ...list.slice(0, start)].find((one) => one.review === null && one !== current()) ?? null;
}

function rowOf(result) {
  const button = make("button", { type: "button" });
  button.addEventListener("click", () => {
    select(result);
    settings.onOpen(result);
  });
  return make("li", {}, button);
}

const unseen = (text) => make("span", { className: "unseen", textContent: ` ${text}` });

function fill(result) {
  result.row ??= rowOf(result);
  const [button] = result.row.children;
  const kind = referralKind(result);
  const mark = disagree(result) ? "disagree" : result.review !== null ? "done" : result.draft.begun ? "begun" : "open";
  button.setAttribute("aria-current", String(result === current()));
  button.title = result.name;
  button.replaceChildren(
    make("img", { src: result.small ?? "static/icon.svg", alt: "", width: 36, height: 36 }),
    make("span", { className: "name" }, foreign(result.name)),
    make("strong", { textContent: shortAnswer(result) }, disagree(result) ? make("span", { className: "disagree", textContent: say("list.disagreement") }) : null),
    make("span", { className: `sign ${kind ?? ""}` }, unseen(kind === null ? "" : say(`refer.${kind}`))),
    make("span", { className: `review-mark ${mark}` }, settings.reviews ? unseen(reviewState(result)) : null),
  );
  return result.row;
}

export function draw() {
  const list = listed();
  openFirst(list[0]);
  show(find("results"), results.length > 0);
  const focused = document.activeElement;
  find("result-items").replaceChildren(...list.map(fill));
  if (find("result-items").contains(focused)) focused.focus({ preventScroll: true });
  const hidden = results.length - list.length;
  find("hidden-count").textContent = hidden > 0 ? sayCount("list.hidden", hidden) : "";
  const open = results.filter((result) => result.review === null).length;
  const key = settings.reviews ? "results.count" : "results.plain";
  find("results-count").textContent = sayCount(key, results.length, { open });
  show(find("next"), settings.reviews && results.length > 1);
  const gone = results.filter((result) => result.file === null && !holds(result.sha256)).length;
  show(find("restored"), gone > 0);
  find("restored").querySelector("p").textContent = gone > 0 ? sayCount("restored", gone) : "";
}

/** Scroll the open photograph's line into view, within the list only. */
export function reveal() {
  const row = current()?.row;
  const frame = find("result-items");
  if (!row?.isConnected) return;
  const { offsetTop: top, offsetHeight: height } = row;
  if (top < frame.scrollTop) frame.scrollTop = top;
  else if (top + height > frame.scrollTop + frame.clientHeight) frame.scrollTop = top + height - frame.clientHeight;
}

for (const tool of [filter, sort]) tool.addEventListener("change", changed);
search.addEventListener("input", changed);

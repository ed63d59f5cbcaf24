// The list of photographs graded in this visit.

import { find, foreign, make, show } from "./elements.js";
import { className, listed, say, sayCount } from "./words.js";

export const results = []; // in the order in which the photographs were added
let selected = null;
let settings = { reviews: false, onSelect: () => null };

export const current = () => selected;

export function begin(given) {
  settings = given;
}

/** The grade in two or three words. */
export const shortAnswer = (result) =>
  result.answer === "graded" ? className(result.grade_name) : say("answer.ungradable");

export function referralKind(result) {
  if (result.answer !== "graded") return "none";
  if (result.referable === null) return null;
  return result.referable ? "yes" : "no";
}

export const flagName = (flag) => {
  const text = say(`flag.${flag.name}`);
  return text.startsWith("flag.") ? flag.name : text;
};

export function reviewState(result) {
  if (result.review !== null) {
    const { given, grade } = result.review;
    if (given === grade) return say("results.confirmed");
    return say("results.corrected", { grade: grade === null ? say("class.ungradable") : className(result.classes[grade]) });
  }
  return say(result.draft.begun ? "results.begun" : "results.open");
}

export const find256 = (sha256) => results.find((result) => result.sha256 === sha256) ?? null;

export function add(result) {
  const place = results.findIndex((other) => other.order > result.order);
  const index = place === -1 ? results.length : place;
  results.splice(index, 0, result);
  result.row = rowOf(result);
  const list = find("result-items");
  list.insertBefore(result.row, list.children[index] ?? null);
  draw();
  if (selected === null) select(result);
}

export function select(result) {
  selected = result;
  draw();
  result.row.scrollIntoView({ block: "nearest" });
  settings.onSelect(result);
}

/** The result `distance` places after the selected one, or null beyond the list. */
export const beside = (distance) => results[results.indexOf(selected) + distance] ?? null;

/** The next result without a review after the selected one, continuing from the top; null if there is none. */
export function nextOpen() {
  const start = results.indexOf(selected) + 1;
  return [...results.slice(start), ...results.slice(0, start)].find((r) => r.review === null && r !== selected) ?? null;
}

function rowOf(result) {
  const button = make("button", { type: "button" });
  button.addEventListener("click", () => {
    select(result);
    settings.onOpen(result);
  });
  return make("li", {}, button);
}

function fill(result) {
  const kind = referralKind(result);
  const flags = result.flags.map(flagName);
  const [button] = result.row.children;
  const mark = result.review === null ? "open" : "done";
  button.setAttribute("aria-current", String(result === selected));
  button.replaceChildren(
    make("img", { src: result.small ?? "static/icon.svg", alt: "", width: 64, height: 64 }),
    make(
      "span",
      { className: "words" },
      make("span", { className: "name" }, foreign(result.name)),
      make("strong", { textContent: shortAnswer(result) }),
      kind === null ? null : make("span", { className: `sign ${kind}`, textContent: say(`refer.${kind}`) }),
      make("span", {
        className: "small",
        textContent: flags.length > 0 ? say("results.flags", { flags: listed(flags, "conjunction") }) : say("results.allFine"),
      }),
      settings.reviews ? make("span", { className: `small review-mark ${mark}`, textContent: reviewState(result) }) : null,
    ),
  );
}

export function draw() {
  show(find("results"), results.length > 0);
  results.forEach(fill);
  const open = results.filter((result) => result.review === null).length;
  const key = settings.reviews ? "results.count" : "results.plain";
  find("results-count").textContent = sayCount(key, results.length, { open });
  show(find("next"), settings.reviews && results.length > 1);
}

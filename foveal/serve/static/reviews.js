// All reviews on the server, one page at a time.

import { getAllReviews, getReviews } from "./api.js";
import { announce, find, foreign, hush, make, save, show } from "./elements.js";
import { plainly } from "./problems.js";
import { className, moment, say } from "./words.js";

const AT_ONCE = 50;
let model = null;
let page = { total: 0, reviews: [] };
let offset = 0;
let asked = 0; // requests for a page of the list
let problem = null;
let open = async () => false;
const search = find("reviews-search");

/** `onOpen(review)` opens a reviewed photograph; it resolves to false if it is not on the page. */
export function begin(given, onOpen) {
  model = given;
  open = onOpen;
}

/** Open the photograph of a review, or say what must be dropped again. */
async function show256(review) {
  if (!(await open(review))) announce(find("reviews-status"), () => say("reviews.absent", { name: review.name }));
}

const nameOf = (grade) => (grade === null || grade === undefined ? say("class.ungradable") : className(model.classes[grade] ?? grade));

function nameButton(review) {
  const label = say("reviews.open", { name: review.name });
  const button = make("button", { type: "button", className: "link", "aria-label": label }, foreign(review.name));
  button.addEventListener("click", () => show256(review));
  return button;
}

function rowOf(review) {
  const same = review.given === review.grade;
  const kind = make("span", { className: "small", textContent: ` ${say(same ? "reviews.confirmed" : "reviews.corrected")}` });
  return make(
    "tr",
    {},
    make("th", { scope: "row" }, nameButton(review)),
    make("td", { textContent: nameOf(review.given) }),
    make("td", {}, make("span", { className: same ? "" : "changed", textContent: nameOf(review.grade) }), kind),
    make("td", {}, foreign(review.reviewer)),
    make("td", {}, make("time", { dateTime: review.when, textContent: moment(review.when) })),
    make("td", { className: "note" }, foreign(review.note ?? "")),
  );
}

export function draw() {
  const { total, reviews } = page;
  show(find("reviews-problem"), problem !== null);
  find("reviews-problem").textContent = problem === null ? "" : plainly(problem);
  show(find("reviews-frame"), reviews.length > 0);
  find("review-rows").replaceChildren(...reviews.map(rowOf));
  show(find("pages"), total > AT_ONCE);
  find("newer").disabled = offset === 0;
  find("older").disabled = offset + AT_ONCE >= total;
  find("pages-range").textContent = say("reviews.range", { first: offset + 1, last: offset + reviews.length, total });
}

/** Fetch a page of the list and show it; an answer that comes after that of a later request is not shown. */
async function fetchPage(from) {
  asked += 1;
  const mine = asked;
  try {
    const found = await getReviews(AT_ONCE, from, search.value.trim());
    if (mine !== asked) return;
    page = found;
    offset = from;
    problem = null;
  } catch (failure) {
    if (mine !== asked) return;
    problem = failure;
  }
  draw();
  if (problem === null && page.total === 0) announce(find("reviews-status"), () => say("reviews.none"));
}

export async function load(from = 0) {
  announce(find("reviews-status"), () => say("reviews.loading"));
  await fetchPage(from);
  if (page.total > 0 || problem !== null) hush(find("reviews-status"));
}

/** Fetch the same page again, without a word. */
export const refresh = () => fetchPage(offset);

async function turn(distance) {
  await load(Math.max(0, offset + distance * AT_ONCE));
  find("reviews-heading").focus();
  window.scrollTo(0, 0);
}

async function download() {
  try {
    const name = `reviews-${model.name}-${new Date().toISOString().slice(0, 10)}.csv`.replace(/[^\w.-]+/g, "_");
    save(await getAllReviews(), name);
    problem = null;
    announce(find("reviews-status"), () => say("reviews.saved", { name }));
  } catch (failure) {
    problem = failure;
  }
  draw();
}

let typing = null;
search.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => load(), 250);
});
find("newer").addEventListener("click", () => turn(-1));
find("older").addEventListener("click", () => turn(1));
find("save-reviews").addEventListener("click", download);

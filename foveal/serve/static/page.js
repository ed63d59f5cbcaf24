// The reading room: connects the other files, each of which does one thing.

import * as answer from "./answer.js";
import { getModel, getReport, whenTokenIsNeeded } from "./api.js";
import { announce, find, retell, save, show } from "./elements.js";
import * as eyes from "./eyes.js";
import * as intake from "./intake.js";
import * as keys from "./keys.js";
import * as list from "./list.js";
import * as news from "./news.js";
import { addressOf, bytesOf, smallCopy } from "./pictures.js";
import { plainly } from "./problems.js";
import * as queue from "./queue.js";
import * as record from "./record.js";
import * as results from "./results.js";
import * as review from "./review.js";
import * as reviews from "./reviews.js";
import * as settings from "./settings.js";
import { askForToken } from "./token.js";
import { toggleMap } from "./viewer.js";
import { languageTag, number, say, translate } from "./words.js";
import * as worklist from "./worklist.js";

const NARROW = matchMedia("(max-width: 56rem)");
let model = null;
let failure = null;
let wanted = null; // digest of a photograph that is opened when it is here
const early = []; // files that were added before the page was ready
let reporting = null; // {result, text()}: the state of the report on a photograph

/** Redraw everything that depends on the language. */
function draw() {
  translate();
  retell();
  document.title = say("page.title");
  const { name, version } = find("grader").dataset;
  find("grader").textContent = say("page.grader", { name, version });
  show(find("start-alert"), failure !== null);
  if (failure !== null) find("start-alert").querySelector("p").textContent = say("start.failed", { problem: plainly(failure) });
  if (model === null) return;
  const bytes = model.limits?.bytes;
  find("intake-limits").textContent = bytes
    ? say("intake.or", { size: number(Math.floor(bytes / queue.MEGABYTE)) })
    : say("intake.plain");
  const keeps = say(model.keeps_images ? "keeps.yes" : "keeps.no");
  const both = [keeps, model.reviews ? say("keeps.reviews") : null].filter(Boolean).join(languageTag() === "en" ? " " : "");
  find("keeps").textContent = both;
  find("keeps-again").textContent = both;
  record.draw(model);
  news.draw();
  worklist.draw();
  queue.draw();
  list.draw();
  drawSelected();
  reviews.draw();
}

function drawSelected() {
  const result = results.current();
  answer.draw(result);
  eyes.draw(result);
  review.draw(result);
  drawNextAfter();
  drawReport();
}

/** Redraw what depends on the reviews. The form stays: the user may be writing. */
function drawReviewed() {
  results.hold();
  results.store();
  if (results.current() !== null) answer.drawVerdict(results.current());
  drawList();
  drawNextAfter();
}

/** Redraw what depends on the other photographs. */
function drawList() {
  worklist.draw();
  list.draw();
  list.reveal();
  eyes.draw(results.current());
}

/** The button to the next photograph, below a saved review. */
function drawNextAfter() {
  show(find("next-after"), results.current()?.review != null && list.nextOpen() !== null);
}

function drawReport() {
  const mine = reporting !== null && reporting.result === results.current();
  find("report-status").textContent = mine ? reporting.text() : "";
  show(find("report"), results.current()?.file != null);
}

/** Add an answer to the results; returns the result that already has this photograph, or null. */
async function take(graded, file, order) {
  const picture = bytesOf(graded.picture);
  const small = await smallCopy(picture);
  const seen = { file, picture: addressOf(picture), heat: addressOf(bytesOf(graded.heat)), small, similar: graded.similar };
  const same = results.find256(graded.sha256);
  if (same !== null && same.file !== null) return same;
  if (same !== null) {
    const { review, decision, ...rest } = graded;
    Object.assign(same, rest, seen, { name: same.name }); // it was here before a reload
    if ((review?.id ?? 0) > (same.review?.id ?? 0)) Object.assign(same, { review, decision });
    news.check([same]); // the answer may be older than a review that was saved here meanwhile
    results.store();
    drawList();
    if (same === results.current()) drawSelected();
    return null;
  }
  results.add({
    ...graded, ...seen, name: file.name, flags: graded.flags ?? [], classes: model.classes,
    order, review: graded.review ?? null, decision: graded.decision ?? null, draft: review.newDraft(), asked: performance.now(),
  });
  find("photographs-view").classList.add("has-results");
  if (wanted === graded.sha256) go(results.find256(wanted));
  return null;
}

/** A photograph of the worklist that is not here any more comes from the server again. */
function reopen(result) {
  if (result !== null && result.file === null) worklist.reopen(result.sha256);
}

/** Show again what was here before a reload, without the photographs. */
function restore() {
  for (const kept of results.stored()) {
    const gone = { file: null, picture: null, heat: null, small: null, similar: [], draft: review.newDraft() };
    results.add({ ...kept, ...gone });
    find("photographs-view").classList.add("has-results");
  }
  results.reopen();
  news.checkAll();
}

/** On narrow screens, the answer is below the list: move there. */
function open() {
  wanted = null;
  if (NARROW.matches) find("answer-name").focus();
}

function go(result) {
  if (result === null) return;
  results.select(result);
  open();
}

function goToNextOpen() {
  const next = list.nextOpen();
  if (next === null) announce(find("status"), () => say("results.none"));
  else go(next);
}

async function makeReport() {
  const result = results.current();
  const name = `${result.name.replace(/\.[^.]*$/, "")}-report.html`;
  const tell = (text) => {
    reporting = { result, text };
    drawReport();
  };
  tell(() => say("report.being"));
  announce(find("status"), () => say("report.being"));
  try {
    save(await getReport(result.file, settings.currentLanguage()), name);
    tell(() => say("report.saved", { name }));
    announce(find("status"), () => say("report.saved", { name }));
  } catch (problem) {
    tell(() => plainly(problem));
    announce(find("alert"), () => plainly(problem));
  }
}

/** Show the view named in the address; loads the reviews each time they are shown. */
function showView({ moved }) {
  const isReviews = location.hash === "#reviews" && model?.reviews === true;
  show(find("photographs-view"), !isReviews);
  show(find("reviews-view"), isReviews);
  find("to-photographs").toggleAttribute("aria-current", false);
  find("to-reviews").toggleAttribute("aria-current", false);
  find(isReviews ? "to-reviews" : "to-photographs").setAttribute("aria-current", "page");
  if (isReviews) reviews.load();
  if (!moved) return;
  window.scrollTo(0, 0);
  if (isReviews) find("reviews-heading").focus();
}

async function start() {
  try {
    model = await getModel();
    failure = null;
  } catch (problem) {
    failure = problem;
    draw();
    return;
  }
  answer.begin(model);
  results.begin({
    key: model.key,
    onChange: drawList,
    onSelect: (result, byUser) => {
      drawSelected();
      reopen(result);
      if (byUser) news.checkOpened(result);
      announce(find("status"), () => say("results.selected", { name: result.name, answer: results.shortAnswer(result) }));
    },
  });
  list.begin({ reviews: model.reviews, onOpen: open });
  review.begin(model, drawReviewed);
  news.begin(model.reviews, drawReviewed);
  reviews.begin(model, async (one) => {
    const result = results.find256(one.image);
    if (result === null && !(await worklist.reopen(one.image))) return false;
    location.hash = "#photographs";
    if (result === null) wanted = one.image;
    else go(result);
    return true;
  });
  const onReady = () => {
    reopen(results.current());
    drawList();
    drawSelected();
  };
  worklist.begin(model, queue.add, { onReady, onOpen: list.orderAsAdded });
  restore();
  queue.begin({ limits: model.limits, similar: model.similar, take, after: Math.max(0, ...results.results.map((one) => one.order)) });
  show(find("to-reviews"), model.reviews);
  draw();
  showView({ moved: false });
  for (const [files, passed] of early.splice(0)) queue.add(files, passed);
}

const mustStay = () => queue.isBusy() || results.results.some((result) => result.draft.begun || result.draft.busy);

whenTokenIsNeeded(askForToken);
intake.listen((files, passed) => {
  if (model === null) {
    early.push([files, passed]);
    return;
  }
  if (location.hash === "#reviews") location.hash = "#photographs";
  queue.add(files, passed);
});
keys.listen({
  u: () => find("choose").click(),
  j: () => go(list.beside(1)),
  k: () => go(list.beside(-1)),
  n: goToNextOpen,
  o: () => go(eyes.other()),
  c: review.confirm,
  g: review.chooseGrade,
  s: review.correct,
  m: toggleMap,
  "/": () => find("search").focus(),
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the view, so it must not change
  find("content").focus();
});
for (const act of ["pointerdown", "keydown"]) find("answer").addEventListener(act, results.hold);
for (const id of ["next", "next-after"]) find(id).addEventListener("click", goToNextOpen);
find("report").addEventListener("click", makeReport);
find("start-alert").querySelector("button").addEventListener("click", start);
window.addEventListener("focus", () => {
  if (model === null) return;
  worklist.refresh();
  if (!find("reviews-view").hidden) reviews.refresh();
});
window.addEventListener("hashchange", () => showView({ moved: true }));
window.addEventListener("beforeunload", (event) => {
  if (mustStay()) event.preventDefault();
});
await settings.begin(draw);
await start();

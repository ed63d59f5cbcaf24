// The photographs graded in this visit. A reload keeps their answers and which one is open, but not the photographs.

import { keepForReload, keptForReload } from "./storage.js";
import { className, languageTag, listed, moment, say } from "./words.js";

const STORE = "results-2";
const OPEN = "open"; // the digest of the photograph that the user has opened
const UNSURE = 0.5; // below this probability of the grade given, the grader is unsure
const NOT_KEPT = ["file", "picture", "heat", "small", "similar", "row", "draft", "asked"];
export const results = []; // in the order in which the photographs were added
let selected = null;
let chosen = false; // whether the user has chosen what is open
let settings = { key: "", onSelect: () => null, onChange: () => null };

export const current = () => selected;

/** key: of the model; onSelect(result, byUser), onChange(): what to redraw. */
export function begin(given) {
  settings = given;
}

/** The grade of the grader; null for ungradable. */
export const givenGrade = (result) => (result.answer === "graded" ? result.grade : null);

/** The grade that counts: that of the reviewers, or else of the grader; null for ungradable. */
export const grade = (result) => (result.decision === null ? givenGrade(result) : result.decision.grade);

/** Whether reviewers disagree; the worse opinion then counts. */
export const disagree = (result) => result.decision?.disagreement === true;

const nameOf = (result, given) => (given === null ? say("class.ungradable") : className(result.classes[given]));

/** The grade of the grader in two or three words. */
export const givenAnswer = (result) => nameOf(result, givenGrade(result));

/** The grade that counts, in two or three words. */
export const shortAnswer = (result) => nameOf(result, grade(result));

/** What follows from the answer, or from the reviews if there are any. */
export function referralKind(result) {
  if (grade(result) === null) return "none";
  const { referable } = result.decision ?? result;
  return referable === null ? null : referable ? "yes" : "no";
}

/** Who decided what and when; only for a reviewed photograph. */
export function reviewSentence(result) {
  const { opinions } = result.decision;
  if (disagree(result)) {
    const each = opinions.map((one) => say("results.opinion", { name: one.reviewer, grade: nameOf(result, one.grade) }));
    return say("results.disagree", { opinions: each.join(languageTag() === "en" ? ", " : "，") });
  }
  const names = listed(opinions.map((one) => one.reviewer), "conjunction");
  return say("results.reviewed", { grade: shortAnswer(result), name: names, when: moment(result.review.when) });
}

export const isUnsure = (result) =>
  result.answer === "graded" && result.probabilities !== null && result.probabilities[result.grade] < UNSURE;

export function reviewState(result) {
  if (disagree(result)) return say("list.disagree");
  if (result.review !== null) {
    if (grade(result) === givenGrade(result)) return say("results.confirmed");
    return say("results.corrected", { grade: shortAnswer(result) });
  }
  return say(result.draft.begun ? "results.begun" : "results.open");
}

export const find256 = (sha256) => results.find((result) => result.sha256 === sha256) ?? null;

/** All photographs of the patient, left before right; only this one if the patient is not known. */
export function ofPatient(result) {
  if (!result.patient) return [result];
  const same = results.filter((other) => other.patient === result.patient);
  return same.toSorted((a, b) => (a.eye || "z").localeCompare(b.eye || "z") || a.order - b.order);
}

export function add(result) {
  const place = results.findIndex((other) => other.order > result.order);
  results.splice(place === -1 ? results.length : place, 0, result);
  store();
  settings.onChange();
}

/** Open a photograph. byUser: the user has chosen it, so that the page no longer opens others by itself. */
export function select(result, { byUser = true } = {}) {
  chosen ||= byUser;
  if (chosen) keepForReload(OPEN, result.sha256);
  if (selected === result) return;
  selected = result;
  settings.onChange();
  settings.onSelect(result, byUser);
}

/** Open the first photograph of the list, until the user has chosen one. */
export function openFirst(first) {
  if (!chosen && first !== undefined) select(first, { byUser: false });
}

/** The user works on what is open: the page no longer opens another by itself. */
export function hold() {
  chosen = true;
}

/** Keep the answers and reviews for a reload. */
export function store() {
  const kept = results.map((result) => Object.fromEntries(Object.entries(result).filter(([name]) => !NOT_KEPT.includes(name))));
  keepForReload(STORE, { key: settings.key, kept });
}

/** The answers that a page of the same model has kept before a reload. */
export function stored() {
  const { key, kept } = keptForReload(STORE) ?? {};
  return key === settings.key ? kept : [];
}

/** Open again what the user had open before a reload. */
export function reopen() {
  const before = find256(keptForReload(OPEN));
  if (before !== null) select(before);
}

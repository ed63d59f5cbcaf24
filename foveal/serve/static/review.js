// Confirm or correct a grade. A review counts as saved only when the server confirms that it is on disk.

import { saveReview } from "./api.js";
import { announce, find, hush, make, show } from "./elements.js";
import { plainly } from "./problems.js";
import { givenGrade } from "./results.js";
import { keep, kept } from "./storage.js";
import { className, say, time } from "./words.js";

const UNGRADABLE = "ungradable";
const reviewer = find("reviewer");
const note = find("note");
let model = null;
let onChange = () => null;
let shown = null;

export const newDraft = () => ({ grade: undefined, note: "", begun: false, said: null, problem: null, busy: false });

/** Calls `changed(result)` whenever the review of a result changes. */
export function begin(given, changed) {
  model = given;
  onChange = changed;
  show(find("review"), model.reviews);
  reviewer.value = kept("reviewer") ?? "";
  draw(shown);
}

const nameOf = (grade) => (grade === null ? say("class.ungradable") : className(model.classes[grade]));

function choice(result, grade) {
  const value = grade === null ? UNGRADABLE : String(grade);
  const input = make("input", { type: "radio", name: "grade", value, checked: result.draft.grade === grade });
  input.addEventListener("change", () => {
    result.draft.grade = grade;
    touched(result);
  });
  const words = make("span", { textContent: nameOf(grade) });
  if (grade === givenGrade(result)) words.append(" ", make("span", { className: "unseen", textContent: `(${say("review.given")})` }));
  return make("label", { className: "tick" }, input, " ", words);
}

function touched(result) {
  result.draft.begun = result.draft.grade !== undefined || result.draft.note !== "";
  Object.assign(result.draft, { said: null, problem: null });
  drawState(result);
  onChange(result);
}

function complain(result, text, element) {
  result.draft.problem = text;
  drawState(result);
  if (element === reviewer) reviewer.setAttribute("aria-invalid", "true");
  element?.focus();
}

async function send(result, grade) {
  const { draft } = result;
  const who = reviewer.value.trim();
  if (draft.busy) return;
  if (who === "") return complain(result, () => say("review.needName"), reviewer);
  if (grade === undefined) {
    return complain(result, () => say("review.needGrade"), find("choices").querySelector("input"));
  }
  keep("reviewer", who);
  Object.assign(draft, { busy: true, problem: null, said: () => say("review.saving") });
  const written = draft.note;
  drawState(result);
  try {
    const review = {
      image: result.sha256, name: result.name, given: givenGrade(result), grade, reviewer: who, note: written,
      probabilities: result.probabilities ?? null,
    };
    const onWait = (seconds) => {
      draft.said = () => say("review.wait", { seconds });
      drawState(result);
    };
    const { decision, ...saved } = await saveReview(review, { onWait });
    Object.assign(result, { review: { reviewer: who, ...saved, grade }, decision });
    draft.begun = draft.note !== written;
    const mine = result.review; // that of the result may soon be another person's
    draft.said = () => savedSentence(result, mine);
  } catch (problem) {
    Object.assign(draft, { said: null, begun: true, problem: () => say("review.failed", { problem: plainly(problem) }) });
  }
  draft.busy = false;
  drawState(result);
  onChange(result);
}

function savedSentence(result, { id, when, grade }) {
  const key = grade === givenGrade(result) ? "review.savedConfirmed" : "review.savedCorrected";
  return say(key, { id, when: time(when), grade: nameOf(grade), given: nameOf(givenGrade(result)) });
}

/** Redraw only the messages, so that the fields keep their content and focus while the user types. */
function drawState(result) {
  if (result !== shown) return;
  const { draft } = result;
  const problem = find("review-problem");
  show(problem, draft.problem !== null);
  const text = draft.problem?.() ?? "";
  if (problem.textContent !== text) problem.textContent = text;
  const said = draft.said?.() ?? "";
  if (said === "") hush(find("review-status"));  // also what is announced in a moment
  else if (find("review-status").textContent !== said) announce(find("review-status"), draft.said);
  find("review-status").classList.toggle("saved", result.review !== null && !draft.busy);
  for (const id of ["confirm", "correct"]) find(id).setAttribute("aria-disabled", String(draft.busy));
}

export function draw(result) {
  const fresh = result !== shown;
  shown = result;
  if (result === null || model === null) return;
  find("confirm").textContent = say("review.confirm", { grade: nameOf(givenGrade(result)) });
  const grades = [...model.classes.keys(), null];
  find("choices").replaceChildren(...grades.map((grade) => choice(result, grade)));
  note.value = result.draft.note;
  if (fresh) hush(find("review-status"));
  drawState(result);
}

reviewer.addEventListener("input", () => {
  reviewer.removeAttribute("aria-invalid");
  if (shown === null || shown.draft.problem === null) return;
  shown.draft.problem = null;
  drawState(shown);
});
note.addEventListener("input", () => {
  shown.draft.note = note.value;
  touched(shown);
});
export const confirm = () => {
  if (shown !== null && model?.reviews) send(shown, givenGrade(shown));
};
export const correct = () => {
  if (shown !== null && model?.reviews) send(shown, shown.draft.grade);
};
/** Move to the grades; the arrow keys choose one. */
export const chooseGrade = () => (find("choices").querySelector(":checked") ?? find("choices").querySelector("input"))?.focus();
find("confirm").addEventListener("click", confirm);
find("review-form").addEventListener("submit", (event) => {
  event.preventDefault();
  // Pressing Enter in the name field must not save a review.
  if (event.submitter === find("correct") && document.activeElement !== reviewer) correct();
});

// Both eyes of a patient side by side; the worse eye decides.

import { find, make, show } from "./elements.js";
import { current, disagree, grade, ofPatient, referralKind, select, shortAnswer } from "./results.js";
import { say } from "./words.js";

const eyeName = (result) => reviewed([result], say(`eyes.${result.eye || "other"}`));

/** What follows for the patient from all photographs that are here: its sign, the sentence, and what it follows from. */
function verdict(all) {
  const within = (eye) => say(`eyes.${eye}`).toLowerCase();
  const [worst] = all.filter((one) => referralKind(one) === "yes").toSorted((a, b) => grade(b) - grade(a));
  if (worst !== undefined) return ["yes", worst.eye ? say("eyes.yes", { eye: within(worst.eye) }) : say("eyes.yes.other"), [worst]];
  const eyes = ["left", "right"].filter((eye) => all.some((one) => one.eye === eye));
  const ofEye = (eye) => all.filter((one) => one.eye === eye);
  const lost = eyes.find((eye) => ofEye(eye).every((one) => referralKind(one) === "none"));
  if (lost !== undefined) return ["none", say("eyes.none", { eye: within(lost) }), ofEye(lost)];
  const unknown = all.filter((one) => !one.eye && referralKind(one) === "none");
  if (unknown.length > 0) return ["none", say("eyes.none.other"), unknown];
  if (all.some((one) => referralKind(one) === null)) return ["", "", []];
  if (eyes.length === 2) return ["no", say("eyes.no"), all];
  return ["", eyes.length === 1 ? say("eyes.one", { eye: within(eyes[0]) }) : "", []];
}

/** The text, marked as reviewed if a person has decided all that it follows from, or if reviewers disagree. */
function reviewed(all, text) {
  if (text && all.some(disagree)) return say("eyes.disagree", { text });
  return all.length > 0 && all.every((one) => one.review !== null) ? say("eyes.reviewed", { text }) : text;
}

function card(result) {
  const kind = referralKind(result);
  const button = make(
    "button",
    { type: "button", className: "quiet" },
    make("img", { src: result.small ?? "static/icon.svg", alt: "", width: 36, height: 36 }),
    make("span", {}, make("b", { textContent: eyeName(result) }), make("span", { className: `sign ${kind ?? ""}`, textContent: shortAnswer(result) })),
  );
  button.setAttribute("aria-current", String(result === current()));
  button.addEventListener("click", () => select(result));
  return make("li", {}, button);
}

export function draw(result) {
  const all = result === null ? [] : ofPatient(result);
  show(find("eyes"), all.length > 1 || Boolean(result?.patient && result.eye));
  const [kind, text, from] = all.length > 0 ? verdict(all) : ["", "", []];
  find("eyes-verdict").className = `sign ${kind}`;
  find("eyes-verdict").textContent = reviewed(from, text);
  find("eyes-items").replaceChildren(...(all.length > 1 ? all.map(card) : []));
}

/** The next photograph of the same patient; null if there is none. */
export function other() {
  const all = current() === null ? [] : ofPatient(current());
  return all.length > 1 ? all[(all.indexOf(current()) + 1) % all.length] : null;
}

// Both eyes of a patient side by side; the worse eye decides.

import { find, make, show } from "./elements.js";
import { current, ofPatient, referralKind, select, shortAnswer } from "./results.js";
import { say } from "./words.js";

const eyeName = (result) => say(`eyes.${result.eye || "other"}`);

/** What follows for the patient from all photographs that are here. */
function verdict(all) {
  const within = (eye) => say(`eyes.${eye}`).toLowerCase();
  const [worst] = all.filter((one) => referralKind(one) === "yes").toSorted((a, b) => b.grade - a.grade);
  if (worst !== undefined) return ["yes", say("eyes.yes", { eye: within(worst.eye || "other") })];
  const eyes = ["left", "right"].filter((eye) => all.some((one) => one.eye === eye));
  const lost = eyes.find((eye) => all.filter((one) => one.eye === eye).every((one) => one.answer === "ungradable"));
  if (lost !== undefined) return ["none", say("eyes.none", { eye: within(lost) })];
  if (all.some((one) => referralKind(one) === null)) return ["", ""];
  return eyes.length === 2 ? ["no", say("eyes.no")] : ["", eyes.length === 1 ? say("eyes.one", { eye: within(eyes[0]) }) : ""];
}

function card(result) {
  const kind = referralKind(result);
  const button = make(
    "button",
    { type: "button", className: "quiet" },
    make("img", { src: result.small ?? "static/icon.svg", alt: "", width: 44, height: 44 }),
    make("span", {}, make("b", { textContent: eyeName(result) }), make("span", { className: `sign ${kind ?? ""}`, textContent: shortAnswer(result) })),
  );
  button.setAttribute("aria-current", String(result === current()));
  button.addEventListener("click", () => select(result));
  return make("li", {}, button);
}

export function draw(result) {
  const all = result === null ? [] : ofPatient(result);
  show(find("eyes"), all.length > 1 || Boolean(result?.patient && result.eye));
  const [kind, text] = all.length > 0 ? verdict(all) : ["", ""];
  find("eyes-verdict").className = `sign ${kind}`;
  find("eyes-verdict").textContent = text;
  find("eyes-items").replaceChildren(...(all.length > 1 ? all.map(card) : []));
}

/** The next photograph of the same patient; null if there is none. */
export function other() {
  const all = current() === null ? [] : ofPatient(current());
  return all.length > 1 ? all[(all.indexOf(current()) + 1) % all.length] : null;
}

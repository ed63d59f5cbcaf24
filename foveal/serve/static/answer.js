// The selected result in detail: the answer of the grader in words and numbers.

import { find, foreign, make, show } from "./elements.js";
import { disagree, givenAnswer, grade as gradeOf, isUnsure, referralKind, reviewSentence } from "./results.js";
import { className, has, languageTag, listed, number, percent, say } from "./words.js";
import { showPicture } from "./viewer.js";
import { placeOf, reasonOf, rowOf } from "./worklist.js";

let model = null;

export function begin(given) {
  model = given;
}

const flagName = (flag) => (has(`flag.${flag.name}`) ? say(`flag.${flag.name}`) : flag.name);
const sentence = (text) => make("p", { textContent: text });
/** Texts from the server are always in English, whatever the language of the page. */
const english = (text) => make("p", { lang: "en", textContent: text });

function gradeSentences(result) {
  const shares = result.probabilities;
  const name = className(result.grade_name);
  if (!shares) return [sentence(say("answer.gradeAlone", { grade: name }))];
  const share = shares[result.grade];
  const likeliest = shares.indexOf(Math.max(...shares));
  const said = [say("answer.grade", { grade: name, share: percent(share) })];
  if (likeliest !== result.grade) {
    const other = className(model.classes[likeliest]);
    const upper = other.charAt(0).toUpperCase() + other.slice(1);
    said.push(say("answer.likelier", { grade: upper, share: percent(shares[likeliest]) }));
  }
  if (isUnsure(result)) said.push(say("answer.unsure"));
  return [sentence(said.join(languageTag() === "en" ? " " : "")), byGrade(result) && meaning(result)];
}

/** Whether the grade decides on referral, and not the threshold or macular oedema. */
const byGrade = (result) => (result.refers_by ?? "grade") === "grade";

/** What a grade of the ICDR scale means; null for other scales, which may use the same words differently. */
function meaning(result) {
  const key = `meaning.${result.grade_name}`;
  return model.scale === "icdr" && has(key) ? make("p", { className: "small", textContent: say(key) }) : null;
}

/** What a flag means; the page has its own texts for the flags of this version. */
function flagMeaning(flag) {
  const key = `flagMeaning.${flag.name}`;
  return languageTag() === "en" || !has(key) ? english(flag.meaning) : sentence(say(key));
}

/** What to do about a photograph with flags; null without flags, or without advice for one of them. */
function advice(result) {
  const flags = result.flags;
  const known = flags.every((flag) => has(`flagAdvice.${flag.name}`));
  if (flags.length === 0 || !known) return result.advice ? english(result.advice) : null;
  const parts = flags.map((flag) => {
    const what = say(`flagAdvice.${flag.name}`);
    const sides = flag.sides.map((side) => say(`side.${side}`));
    return sides.length > 0 ? say("advice.cut", { what, sides: listed(sides, "conjunction") }) : what;
  });
  return sentence(say("advice", { what: parts.join(languageTag() === "en" ? "; " : "；") }));
}

function ungradableSentences(result) {
  // The reason lists each flag that prevents a grade, as `flag: meaning` in English.
  const reasons = result.flags.filter((flag) => result.reason.includes(`${flag.name}: `)).map(flagMeaning);
  if (reasons.length === 0 && result.reason) reasons.push(english(result.reason));
  return [sentence(say("answer.ungradable.lead")), ...reasons];
}

const title = (kind) =>
  make("p", {}, make("strong", { className: `sign ${kind}`, textContent: say(`refer.${kind}.title`) }));

/** The verdict, that of the newest review if there is one, and the grade of the grader below it. */
export function drawVerdict(result) {
  drawAdvice(result);
  const grade = givenAnswer(result);
  find("answer-grade").textContent = result.review === null
    ? grade.charAt(0).toUpperCase() + grade.slice(1)
    : say("answer.given", { grade });
  const box = find("answer-referral");
  const kind = referralKind(result);
  box.className = `verdict ${kind ?? "none"}`;
  if (result.review !== null) {
    box.replaceChildren(...[
      kind !== null && title(kind), sentence(reviewSentence(result)),
      disagree(result) && sentence(say("results.worse")),
      kind === "yes" && result.refers_by === "oedema" && sentence(say("refer.yes.oedema")),
      kind === "none" && sentence(say("answer.ungradable.meaning")),
    ].filter(Boolean));
  } else if (kind === "none") {
    box.replaceChildren(...[title(kind), namesOfFlags(result), sentence(say("answer.ungradable.meaning"))].filter(Boolean));
  } else if (kind === null) {
    box.replaceChildren(sentence(say("refer.unknown")));
  } else {
    box.replaceChildren(...[title(kind), sentence(why(result, kind)), cautions(result)].filter(Boolean));
  }
}

const namesOfFlags = (result) => result.flags.length > 0 && sentence(result.flags.map(flagName).join(" · "));

/** Why the grader refers this eye, or does not. */
function why(result, kind) {
  const least = model.referable_from ?? null;
  if (least === null) return say(`refer.${kind}.plain`);
  const grade = className(model.classes[least]);
  if (byGrade(result)) return say(`refer.${kind}.meaning`, { grade });
  if (result.refers_by === "oedema") return say("refer.yes.oedema");
  const score = result.probabilities.slice(least).reduce((sum, share) => sum + share, 0);
  const { threshold, least: sensitivity } = model.referral;
  const shares = { score, threshold, sensitivity };
  return say(`refer.${kind}.threshold`, { grade, ...Object.fromEntries(Object.entries(shares).map(([name, share]) => [name, percent(share)])) });
}

/** One line of reasons not to rely on the answer; the numbers below have each in full. */
function cautions(result) {
  const whole = Array.isArray(result.set) && result.set.length === model.classes.length;
  const reasons = [
    ...result.flags.map((flag) => flagName(flag)),
    ...((result.unlike ?? []).length > 0 ? [say("list.unlike")] : []),
    ...(isUnsure(result) || whole ? [say("list.unsure")] : []),
  ];
  return reasons.length > 0 && sentence(say("answer.cautions", { reasons: reasons.join(" · ") }));
}

/** What to do about an ungradable photograph; above the photograph, since the form below the verdict needs the room. */
function drawAdvice(result) {
  const what = result.answer === "ungradable" && gradeOf(result) === null ? advice(result) : null;
  show(find("advice"), what !== null);
  find("advice").replaceChildren(...[what].filter(Boolean));
}

function drawBars(result) {
  const shares = result.probabilities ?? [];
  for (const id of ["bars", "bars-heading"]) show(find(id), shares.length > 0);
  show(find("bars-note"), shares.length > 0 && result.answer === "ungradable");
  find("bars").classList.toggle("doubtful", result.answer === "ungradable");
  find("bars").tBodies[0].replaceChildren(
    ...shares.map((share, k) => {
      const bar = make("i");
      bar.style.width = `${100 * share}%`;
      const given = result.answer === "graded" && k === result.grade;
      const name = make("th", { scope: "row", textContent: className(model.classes[k]) });
      if (given) name.append(" ", make("span", { className: "given-mark", textContent: say("bars.given") }));
      return make("tr", { className: given ? "given" : "" }, name, make("td", {}, bar), make("td", { textContent: percent(share) }));
    }),
  );
}

function drawSet(result) {
  const has = result.answer === "graded" && Array.isArray(result.set) && result.set.length > 0;
  show(find("set"), has);
  if (!has) return;
  if (result.set.length === model.classes.length) {
    find("set").querySelector("p").textContent = say("set.all");
    return;
  }
  const names = result.set.map((k) => className(model.classes[k]));
  const text = listed(names);
  const key = names.length === 1 ? "set.one" : "set.more";
  const grades = text.charAt(0).toUpperCase() + text.slice(1);
  find("set").querySelector("p").textContent = result.coverage
    ? say(key, { grades, share: percent(result.coverage) })
    : say(`${key}Alone`, { grades });
}

function drawFlags(result) {
  const lines = result.flags.map((flag) => {
    return make("div", {}, make("dt", { textContent: flagName(flag) }), make("dd", {}, flagMeaning(flag)));
  });
  const unlike = (result.unlike ?? []).map((kind) => say(`unlike.${kind}`));
  find("flags").replaceChildren(
    lines.length > 0 ? make("dl", { className: "flags" }, ...lines) : sentence(say("flags.none")),
    ...[result.answer === "ungradable" ? null : advice(result)].filter(Boolean), // it stands beside the photograph
    ...(unlike.length > 0 ? [sentence(say("unlike", { kinds: listed(unlike, "conjunction") }))] : []),
  );
}

function drawSimilar(result) {
  const similar = result.similar ?? [];
  show(find("similar"), model.similar && result.answer === "graded" && similar.length > 0);
  find("similar-items").replaceChildren(
    ...similar.map((other) => {
      const grade = className(other.grade_name);
      return make(
        "li",
        {},
        make("img", { src: other.picture, alt: say("similar.picture", { grade }) }),
        make("strong", { textContent: grade }),
        make("span", { className: "small", textContent: say("similar.share", { share: percent(other.similarity) }) }),
      );
    }),
  );
}

export function draw(result) {
  show(find("answer"), result !== null);
  if (result === null) return;
  const ungradable = result.answer === "ungradable";
  find("answer-name").replaceChildren(foreign(result.name));
  find("answer-size").textContent = result.width
    ? say("answer.size", { width: number(result.width), height: number(result.height) })
    : "";
  const row = rowOf(result.sha256);
  show(find("answer-why"), row !== undefined);
  if (row) find("answer-why").replaceChildren(sentence(say("worklist.why", placeOf(row))), row.why ? sentence(reasonOf(row, model.classes)) : english(row.reason));
  const said = ungradable ? ungradableSentences(result) : gradeSentences(result);
  find("answer-sentences").replaceChildren(...said.filter(Boolean));
  drawVerdict(result);
  drawBars(result);
  drawSet(result);
  drawFlags(result);
  drawSimilar(result);
  showPicture(result, model);
}

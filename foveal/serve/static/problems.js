// Errors in plain words.

import { Refused } from "./api.js";
import { has, languageTag, say } from "./words.js";

const OWN = [401, 409]; // for these, the texts of the page are clearer

/** What went wrong and how to fix it. The server's text is English: in other languages, the page has one for each code. */
export function plainly(problem) {
  if (!(problem instanceof Refused)) return say("error.strange");
  if (problem.status === 0) return say("error.offline");
  if (problem.status >= 200 && problem.status < 300) return say("error.strange");
  const key = [`error.${problem.code}`, `error.${problem.status}`].find(has) ?? "error.other";
  const known = say(key, { status: problem.status });
  const expected = problem.expected && `expected: ${problem.expected}`;
  const said = [problem.what, expected, problem.fix].filter(Boolean).map(ended).join(" ");
  if (!said || OWN.includes(problem.status)) return known;
  if (languageTag() !== "en" && key === `error.${problem.code}`) return known;
  return languageTag() === "en" ? said : `${known}（${said}）`;
}

function ended(sentence) {
  const upper = sentence.charAt(0).toUpperCase() + sentence.slice(1);
  return /[.!?。！？]$/.test(upper) ? upper : `${upper}.`;
}

// All texts of the page, in the language of the page.

export const LANGUAGES = ["en", "zh"];
let words = {};
let plural = new Intl.PluralRules("en");
let tag = "en";

export async function load(language) {
  const answer = await fetch(new URL(`words.${language}.json`, import.meta.url));
  if (!answer.ok) throw new Error(`words.${language}.json: ${answer.status}`);
  words = await answer.json();
  tag = language === "zh" ? "zh-CN" : "en";
  plural = new Intl.PluralRules(tag);
  document.documentElement.lang = tag;
}

export const languageTag = () => tag;
export const has = (key) => key in words;

/** The text of a key with its {places} filled; the key itself where there is none, so that a slip is seen. */
export function say(key, values = {}) {
  const text = words[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** The text of a key for a number of things. */
export const sayCount = (key, count, values = {}) =>
  say(`${key}.${plural.select(count) === "one" ? "one" : "other"}`, { count: number(count), ...values });

export const number = (value, digits = 0) =>
  value.toLocaleString(tag, { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** A share as a percentage. What is not nothing is not called 0 %, and what is not certain not 100 %. */
export function percent(share) {
  const rounded = Math.round(100 * share);
  if (rounded === 0 && share > 0) return say("percent", { number: "<1" });
  if (rounded === 100 && share < 1) return say("percent", { number: ">99" });
  return say("percent", { number: rounded });
}

/** The name of a class in the language of the page, or as the grader has it. */
export const className = (name) => (has(`class.${name}`) ? say(`class.${name}`) : name);

/** Names in a row; Chinese sets a mark between them that needs no space beside Latin letters. */
export const listed = (names, type = "disjunction") =>
  tag === "en" ? new Intl.ListFormat(tag, { type }).format(names) : names.join("、");

/** A day is told with the name of its month: 4/5 is two days. */
const dated = () => (tag === "en" ? "en-GB" : tag);

export const moment = (when) => new Date(when).toLocaleString(dated(), { dateStyle: "medium", timeStyle: "short" });

export const time = (when) => new Date(when).toLocaleTimeString(dated(), { timeStyle: "short" });

/** Fill every element that names its words. */
export function translate(root = document) {
  for (const element of root.querySelectorAll("[data-words]")) element.textContent = say(element.dataset.words);
  for (const element of root.querySelectorAll("[data-words-label]")) {
    element.setAttribute("aria-label", say(element.dataset.wordsLabel));
  }
}

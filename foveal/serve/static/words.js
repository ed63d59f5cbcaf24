// The texts of the page in the selected language.

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

/** The text of a key with its {placeholders} filled; the key itself if there is no text, so that mistakes are visible. */
export function say(key, values = {}) {
  const text = words[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** The text of a key in its singular or plural form. */
export const sayCount = (key, count, values = {}) =>
  say(`${key}.${plural.select(count) === "one" ? "one" : "other"}`, { count: number(count), ...values });

export const number = (value, digits = 0) =>
  value.toLocaleString(tag, { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** A share as a percentage: 0 % only for exactly 0, and 100 % only for exactly 1. */
export function percent(share) {
  const rounded = Math.round(100 * share);
  if (rounded === 0 && share > 0) return say("percent", { number: "<1" });
  if (rounded === 100 && share < 1) return say("percent", { number: ">99" });
  return say("percent", { number: rounded });
}

/** The name of a class in the language of the page, or the grader's own name. */
export const className = (name) => (has(`class.${name}`) ? say(`class.${name}`) : name);

/** A list of names; in Chinese, joined by 、, which needs no spaces around Latin letters. */
export const listed = (names, type = "disjunction") =>
  tag === "en" ? new Intl.ListFormat(tag, { type }).format(names) : names.join("、");

/** Dates use the name of the month: 4/5 is ambiguous. */
const dated = () => (tag === "en" ? "en-GB" : tag);

export const moment = (when) => new Date(when).toLocaleString(dated(), { dateStyle: "medium", timeStyle: "short" });

export const time = (when) => new Date(when).toLocaleTimeString(dated(), { timeStyle: "short" });

/** Fill in the text of every element with a data-words attribute. */
export function translate(root = document) {
  for (const element of root.querySelectorAll("[data-words]")) element.textContent = say(element.dataset.words);
  for (const element of root.querySelectorAll("[data-words-label]")) {
    element.setAttribute("aria-label", say(element.dataset.wordsLabel));
  }
  for (const element of root.querySelectorAll("[data-words-placeholder]")) element.placeholder = say(element.dataset.wordsPlaceholder);
}

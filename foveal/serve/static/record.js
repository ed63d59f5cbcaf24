// How good the grader is on photographs with a known grade.

import { find, make, show } from "./elements.js";
import { has, number, say } from "./words.js";

const DIGITS = 3;

function rowOf(entry) {
  const key = `metric.${entry.name}`;
  const known = has(`metricMeaning.${entry.name}`);
  const name = make("th", { scope: "row", textContent: has(key) ? say(key) : entry.name });
  if (known) name.append(make("span", { className: "small", textContent: say(`metricMeaning.${entry.name}`) }));
  const interval = entry.low === null || entry.low === undefined
    ? "–"
    : say("record.between", { low: number(entry.low, DIGITS), high: number(entry.high, DIGITS) });
  const value = entry.value === null || entry.value === undefined ? "–" : number(entry.value, DIGITS);
  const count = entry.n === null || entry.n === undefined ? "–" : number(entry.n);
  return make("tr", {}, name, ...[value, interval, count].map((textContent) => make("td", { textContent })));
}

export function draw(model) {
  const record = model.record ?? [];
  show(find("record"), true);
  show(find("record-frame"), record.length > 0);
  find("record-lead").textContent = say(record.length > 0 ? "record.lead" : "record.none");
  find("record-rows").replaceChildren(...record.map(rowOf));
}

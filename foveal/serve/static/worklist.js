// The worklist of the server: its photographs can be opened at any time, also after a review or a reload.

import { getWorklist, getWorklistPhotograph } from "./api.js";
import { announce, find, show } from "./elements.js";
import { plainly } from "./problems.js";
import { find256 } from "./results.js";
import { className, has, listed, percent, say, sayCount } from "./words.js";

const UNSURE = /^unsure between (.+?) \(([\d.]+)\) and (.+?) \(([\d.]+)\)$/;
const UNLIKE = /^unlike the training photographs in (.+)$/;
const EVEN = /^to cover cameras and grades evenly: (.*), (.+?)$/;
const opening = new Set(); // digests on their way
let rows = []; // {rank, name, reason, sha256, reviewed}, in order
let count = 0;
let told = null; // what the button says meanwhile
let add = () => null;

const rowOf = (sha256) => rows.find((row) => row.sha256 === sha256);

/** Whether the server can give a photograph again. */
export const holds = (sha256) => rowOf(sha256) !== undefined;

/** Why a photograph was chosen, in English; "" if it is not from the worklist. */
export const reasonOf = (sha256) => rowOf(sha256)?.reason ?? "";

/** The reason in the language of the page; null if it is not worded as `foveal select` does it. */
export function reasonInWords(reason) {
  const parts = reason.split("; ").map((part) => {
    const [, first, p, second, q] = UNSURE.exec(part) ?? [];
    if (first) return say("worklist.unsure", { first: className(first), p: percent(+p), second: className(second), q: percent(+q) });
    const kinds = UNLIKE.exec(part)?.[1].split(/, | and /);
    if (kinds?.every((kind) => has(`unlike.${kind}`))) return say("worklist.unlike", { kinds: listed(kinds.map((kind) => say(`unlike.${kind}`)), "conjunction") });
    const [, camera, grade] = EVEN.exec(part) ?? [];
    return grade ? say("worklist.even", { camera, grade: className(grade) }) : null;
  });
  return parts.includes(null) ? null : parts.join(say("worklist.join"));
}

export function draw() {
  const button = find("open-worklist");
  show(button, count > 0);
  const open = rows.filter((row) => !row.reviewed).length;
  button.textContent = told === null ? sayCount("worklist.open", count, { open }) : told();
}

async function load() {
  rows = (await getWorklist()).photographs;
  count = rows.length;
}

async function send(row) {
  add([new File([await getWorklistPhotograph(row.rank)], row.name)], 0);
}

/** Open all photographs that are not here, first those without a review. */
async function open() {
  const button = find("open-worklist");
  button.disabled = true;
  try {
    await load();
    find("sort").value = "added";
    const missing = rows.filter((row) => !find256(row.sha256)?.file).toSorted((a, b) => a.reviewed - b.reviewed);
    for (const [k, row] of missing.entries()) {
      told = () => say("worklist.opening", { done: k, total: missing.length });
      draw();
      await send(row);
    }
    told = () => say("worklist.opened");
  } catch (problem) {
    told = null;
    button.disabled = false;
    announce(find("alert"), plainly(problem));
  }
  draw();
}

/** Fetch one photograph again; false if the worklist does not have it. */
export function reopen(sha256) {
  if (!holds(sha256)) return false;
  if (opening.has(sha256)) return true;
  opening.add(sha256);
  send(rowOf(sha256))
    .catch((problem) => announce(find("alert"), plainly(problem)))
    .finally(() => opening.delete(sha256));
  return true;
}

/** `give(files, passed)` queues photographs; calls `onReady()` when the photographs of the worklist are known. */
export async function begin(model, give, onReady) {
  count = model.worklist ?? 0;
  add = give;
  find("open-worklist").onclick = open;
  if (count === 0) return;
  await load().catch(() => null);
  draw();
  onReady();
}

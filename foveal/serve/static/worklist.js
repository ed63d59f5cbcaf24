// The worklist of the server: its photographs can be opened at any time, also after a review or a reload.

import { getWorklist, getWorklistPhotograph } from "./api.js";
import { announce, find, show } from "./elements.js";
import { plainly } from "./problems.js";
import { find256 } from "./results.js";
import { className, listed, percent, say, sayCount } from "./words.js";

const opening = new Set(); // digests on their way
let rows = []; // in order: {rank, name, sha256, reviewed} and columns of the worklist, as text
let count = 0;
let told = null; // what the button says meanwhile
let add = () => null;
let onOpen = () => null;
let loading = null; // until the photographs of the worklist are known

/** The row of a photograph; undefined if it is not from the worklist. */
export const rowOf = (sha256) => rows.find((row) => row.sha256 === sha256);

/** Whether the server can give a photograph again. */
export const holds = (sha256) => rowOf(sha256) !== undefined;

/** Where a photograph stands in the worklist. */
export const placeOf = (row) => ({ rank: row.rank, count });

/** Why a photograph was chosen, in the language of the page; "" in worklists of earlier versions. */
export function reasonOf(row, classes) {
  const named = (grade) => className(classes[grade] ?? grade);
  const found = ["", "second_", "third_"].map((which) => [row[`${which}grade`], +row[`${which}probability`]]);
  const given = found[0];
  found.sort((one, next) => next[1] - one[1]);
  const [likely, second] = found.map(([grade, share]) => ({ name: named(grade), share: percent(share) }));
  const kinds = row.unlike.split(" ").map((kind) => say(`unlike.${kind}`));
  const though = say("worklist.though", { grade: named(given[0]), p: percent(given[1]) });
  const unsure = say("worklist.unsure", { first: likely.name, p: likely.share, second: second.name, q: second.share });
  const sentences = {
    unsure: unsure + (found.indexOf(given) < 2 ? "" : though),
    unlike: say("worklist.unlike", { kinds: listed(kinds, "conjunction") }),
    even: say("worklist.even", { camera: row.camera || row.source, grade: named(row.grade) }),
  };
  return row.why.split(" ").map((word) => sentences[word]).join(say("worklist.join"));
}

/** What is on this page may have been reviewed since the worklist came. */
function isReviewed(row) {
  const here = find256(row.sha256);
  return here === null ? row.reviewed : here.review !== null;
}

export function draw() {
  const button = find("open-worklist");
  show(button, count > 0);
  const open = rows.filter((row) => !isReviewed(row)).length;
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
    onOpen();
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
    announce(find("alert"), () => plainly(problem));
  }
  draw();
}

/** Fetch one photograph again; false if the worklist does not have it. */
export async function reopen(sha256) {
  await loading;
  if (!holds(sha256)) return false;
  if (opening.has(sha256)) return true;
  opening.add(sha256);
  send(rowOf(sha256))
    .catch((problem) => announce(find("alert"), () => plainly(problem)))
    .finally(() => opening.delete(sha256));
  return true;
}

/** Ask again which photographs have a review. */
export async function refresh() {
  if (count === 0) return;
  await load().catch(() => null); // news.js tells that the server cannot be reached
  draw();
}

/**
 * `give(files, passed)` queues photographs. Calls `onReady()` when the photographs of the worklist are known, and
 * `onOpen()` when they are opened.
 */
export async function begin(model, give, { onReady, onOpen: opens }) {
  count = model.worklist ?? 0;
  add = give;
  onOpen = opens;
  find("open-worklist").onclick = open;
  if (count === 0) return;
  loading = load().catch(() => null);
  await loading;
  draw();
  onReady();
}

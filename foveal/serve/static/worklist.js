// The worklist of the server: its photographs without a review, sent for grading and listed in their order.

import { getWorklist, getWorklistPhotograph } from "./api.js";
import { announce, find, show } from "./elements.js";
import { plainly } from "./problems.js";
import { say, sayCount } from "./words.js";

const reasons = new WeakMap(); // file -> why it was chosen, in English
let count = 0;
let told = null; // what the button says meanwhile

export const reasonOf = (file) => reasons.get(file) ?? "";

export function draw() {
  const button = find("open-worklist");
  show(button, count > 0 || told !== null);
  button.textContent = told === null ? sayCount("worklist.open", count) : told();
}

/** `add(files, passed)` queues photographs. */
async function open(add) {
  const button = find("open-worklist");
  button.disabled = true;
  try {
    const { photographs } = await getWorklist();
    find("sort").value = "added";
    for (const [k, { rank, name, reason }] of photographs.entries()) {
      told = () => say("worklist.opening", { done: k, total: photographs.length });
      draw();
      const file = new File([await getWorklistPhotograph(rank)], name);
      reasons.set(file, reason);
      add([file], 0);
    }
    told = () => say(photographs.length > 0 ? "worklist.opened" : "worklist.done");
  } catch (problem) {
    told = null;
    button.disabled = false;
    announce(find("alert"), plainly(problem));
  }
  draw();
}

export async function begin(model, add) {
  count = model.worklist ?? 0;
  find("open-worklist").onclick = () => open(add);
  if (count === 0) return;
  const { photographs } = await getWorklist().catch(() => ({ photographs: { length: count } }));
  count = photographs.length;
  if (count === 0) told = () => say("worklist.done");
  draw();
}

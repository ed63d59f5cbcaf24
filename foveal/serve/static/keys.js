// Single-letter shortcuts and the dialog that lists them. The user can switch them off; they are off in fields and dialogs.

import { find } from "./elements.js";
import { keep, kept } from "./storage.js";

const dialog = find("keys");
const on = find("keys-on");

const writes = (element) =>
  element?.isContentEditable || element?.matches?.("textarea, select, input:not([type=radio], [type=checkbox], [type=range])");

/** `actions`: letter -> what it does. */
export function listen(actions) {
  on.checked = kept("keys") !== "off";
  on.addEventListener("change", () => keep("keys", on.checked ? "on" : "off"));
  find("open-keys").addEventListener("click", () => dialog.showModal());
  find("close-keys").addEventListener("click", () => dialog.close());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
    if (!on.checked || writes(event.target) || document.querySelector("dialog[open]")) return;
    const action = event.key === "?" ? () => dialog.showModal() : actions[event.key.toLowerCase()];
    if (action === undefined) return;
    event.preventDefault();
    action();
  });
}

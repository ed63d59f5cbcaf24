// The dialog that asks for the server's token.

import { find, show } from "./elements.js";

const dialog = find("token");
const text = find("token-text");

/** The token that the user enters, or null if they cancel. */
export function askForToken({ wrong }) {
  show(find("token-wrong"), wrong);
  text.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  text.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "use" ? text.value.trim() : null), { once: true });
  });
}

find("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  dialog.close("use");
});
find("token-cancel").addEventListener("click", () => dialog.close());

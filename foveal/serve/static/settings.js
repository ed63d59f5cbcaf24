// Language and colours: the user's choice, stored in this browser; by default the settings of the browser.

import { find } from "./elements.js";
import { keep, kept } from "./storage.js";
import { LANGUAGES, load } from "./words.js";

const language = find("language");
const colours = find("colours");

export const currentLanguage = () => language.value;

/** Load the texts and react to both settings; calls `onLanguage()` when the texts have changed. */
export async function begin(onLanguage) {
  const wanted = kept("language") ?? navigator.language ?? "en";
  language.value = LANGUAGES.find((known) => wanted.toLowerCase().startsWith(known)) ?? "en";
  colours.value = document.documentElement.dataset.colours ?? "auto";
  language.addEventListener("change", async () => {
    keep("language", language.value);
    await load(language.value);
    onLanguage();
  });
  colours.addEventListener("change", () => {
    keep("colours", colours.value);
    if (colours.value === "auto") delete document.documentElement.dataset.colours;
    else document.documentElement.dataset.colours = colours.value;
  });
  await load(language.value);
  onLanguage();
}

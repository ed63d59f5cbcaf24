// Elements of the page. Always set text as text, never as HTML: file names, notes and reasons are not trusted.

export const find = (id) => document.getElementById(id);

/** An element with properties and children. Names with a hyphen, role, scope and lang become attributes. */
export function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.includes("-") || ["role", "scope", "lang"].includes(name)) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Text from outside in a <bdi>, so that right-to-left text does not change the text around it. */
export const foreign = (text) => make("bdi", { textContent: text });

export function show(element, shown) {
  element.hidden = !shown;
}

/** Download bytes as a file. */
export function save(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = make("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

const told = new Map(); // live region -> what gives its text, so that it follows the language

/** Announce `words()` in a live region. Empty it first: the same text twice would be read out only once. */
export function announce(region, words) {
  hush(region);
  told.set(region, words);
  setTimeout(() => {
    if (told.get(region) === words) region.textContent = words();
  }, 50);
}

/** Empty a live region. */
export function hush(region) {
  told.delete(region);
  region.textContent = "";
}

/** Say all announcements in the language of the page. */
export function retell() {
  for (const [region, words] of told) if (region.textContent !== "") region.textContent = words();
}

// Elements of the page. Text is only ever set as text: names of files, notes and reasons come from outside.

export const find = (id) => document.getElementById(id);

/** An element with properties (those with a hyphen, and role, scope and lang, become attributes) and children. */
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

/** Text from outside, kept apart so that its direction of writing cannot turn what stands beside it. */
export const foreign = (text) => make("bdi", { textContent: text });

export function show(element, shown) {
  element.hidden = !shown;
}

/** Offer bytes as a file to save. */
export function save(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = make("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** The same words twice would be read out once: a live region is emptied first. */
export function announce(region, text) {
  region.textContent = "";
  setTimeout(() => {
    region.textContent = text;
  }, 50);
}

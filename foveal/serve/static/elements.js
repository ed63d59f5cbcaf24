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

/** Announce a text in a live region. Empty it first: the same text twice would be read out only once. */
export function announce(region, text) {
  region.textContent = "";
  setTimeout(() => {
    region.textContent = text;
  }, 50);
}

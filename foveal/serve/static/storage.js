// Stored in this browser: settings for good, and what a reload must keep for as long as the tab is open.
// If storage is blocked or full, nothing is stored and the page still works.

export function keep(name, value) {
  try {
    localStorage.setItem(`foveal-${name}`, value);
  } catch {
    // The page works without it.
  }
}

export function kept(name) {
  try {
    return localStorage.getItem(`foveal-${name}`);
  } catch {
    return null;
  }
}

export function keepForReload(name, value) {
  try {
    sessionStorage.setItem(`foveal-${name}`, JSON.stringify(value));
  } catch {
    // The page works without it.
  }
}

/** What was kept under this name before a reload; null if there is nothing. */
export function keptForReload(name) {
  try {
    return JSON.parse(sessionStorage.getItem(`foveal-${name}`));
  } catch {
    return null;
  }
}

// Settings stored in this browser. If storage is blocked or full, nothing is stored and the page still works.

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

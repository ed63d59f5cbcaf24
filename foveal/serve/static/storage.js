// What stays in this browser. Storage can be forbidden or full: then nothing is kept, and the page goes on.

export function keep(name, value) {
  try {
    localStorage.setItem(`foveal-${name}`, value);
  } catch {
    // Nothing depends on it.
  }
}

export function kept(name) {
  try {
    return localStorage.getItem(`foveal-${name}`);
  } catch {
    return null;
  }
}

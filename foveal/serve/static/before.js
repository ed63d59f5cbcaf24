// Runs before the first paint, so that a dark or Chinese page does not flash light or English.
(() => {
  let kept = {};
  try {
    kept = { colours: localStorage.getItem("foveal-colours"), language: localStorage.getItem("foveal-language") };
  } catch {
    // Storage may be blocked; the page then follows the system settings.
  }
  const root = document.documentElement;
  if (kept.colours === "light" || kept.colours === "dark") root.dataset.colours = kept.colours;
  const language = kept.language ?? navigator.language ?? "en";
  root.lang = language.toLowerCase().startsWith("zh") ? "zh-CN" : "en";
})();

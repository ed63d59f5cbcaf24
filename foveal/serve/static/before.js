// Runs before the first paint, so that a dark or Chinese page does not flash light or English, and dropped files wait.
(() => {
  let kept = {};
  try {
    kept = { colours: localStorage.getItem("foveal-colours"), language: localStorage.getItem("foveal-language") };
  } catch {
    // Storage may be blocked; the page then follows the system settings.
  }
  const root = document.documentElement;
  if (kept.colours === "light" || kept.colours === "dark") root.dataset.colours = kept.colours;
  window.droppedEarly = [];
  for (const kind of ["dragover", "drop"]) {
    document.addEventListener(kind, (event) => {
      if (window.droppedEarly === null || !event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      window.droppedEarly.push(...event.dataTransfer.files);
    });
  }
  const language = kept.language ?? navigator.language ?? "en";
  root.lang = language.toLowerCase().startsWith("zh") ? "zh-CN" : "en";
})();

// Adding photographs: chosen, dropped (also folders) or pasted.

import { find } from "./elements.js";

// What the server reads, or refuses with advice: HEIC, icons and raw files of cameras.
const PHOTOGRAPH = /^(jpe?g?|jfif|jif|mpo|png|tiff?|bmp|webp|avif|hei[cf]|gif|jp[2cfx]|j2[ck]|p[pgbn]m|dib|pcx|psd|qoi|ras|sgi|tga|ico|icns|dds|im|eps|cr[23]|nef|nrw|arw|sr[f2w]|dng|raf|orf|rw2|pef|dcm|dicom|ima)$/i;
let pasted = 0;

/** Whether the name may be that of a photograph. DICOM names often have no ending, or are numbers with full stops. */
function canBePhotograph(name) {
  const ending = /\.(?=\w*[a-z])(\w+)$/i.exec(name);
  return ending === null ? name !== "DICOMDIR" : PHOTOGRAPH.test(ending[1]);
}

/** All files of a dropped folder. */
async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const files = [];
  for (;;) {
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (entries.length === 0) return files;
    for (const inner of entries) files.push(...(await filesOf(inner)));
  }
}

/** The dropped files, of folders only the photographs; `passed` counts the skipped files. */
async function dropped(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  // Read both before the first await: afterwards the browser clears them.
  const asked = items.map((item) => ({ entry: item.webkitGetAsEntry?.(), file: item.getAsFile() }));
  const files = [];
  let passed = 0;
  for (const { entry, file } of asked) {
    if (entry?.isDirectory) {
      const inside = await filesOf(entry);
      const photographs = inside.filter((one) => canBePhotograph(one.name));
      passed += inside.length - photographs.length;
      files.push(...photographs);
    } else if (file !== null) files.push(file);
  }
  return { files, passed };
}

/** A file with a name of its own: the clipboard calls every picture image.png. */
function named(file) {
  if (!/^image\.\w+$/.test(file.name)) return file;
  pasted += 1;
  return new File([file], file.name.replace("image", `pasted-${pasted}`), { type: file.type });
}

/** Calls `take(files, passed)` with the files that the user adds, and the number of skipped files. */
export function listen(take) {
  const zone = find("drop");
  const input = find("files");
  let depth = 0; // elements under the pointer that were entered and not left
  const highlight = (on) => {
    depth = on ? depth : 0;
    zone.classList.toggle("over", on);
  };
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");

  const chosen = () => {
    take([...input.files], 0);
    input.value = ""; // so that the same file can be chosen again
  };
  find("choose").addEventListener("click", () => input.click());
  input.addEventListener("change", chosen);
  chosen(); // what was added before this file was loaded
  take(window.droppedEarly, 0);
  window.droppedEarly = null; // before.js no longer collects them
  document.addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    depth += 1;
    highlight(true);
  });
  document.addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    if (depth === 0) highlight(false);
  });
  document.addEventListener("dragover", (event) => {
    if (carriesFiles(event)) event.preventDefault();
  });
  document.addEventListener("drop", async (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault(); // otherwise the browser leaves the page to show the file
    highlight(false);
    const { files, passed } = await dropped(event.dataTransfer);
    take(files, passed);
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length > 0) take(files.map(named), 0);
  });
}

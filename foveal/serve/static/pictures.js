// Pictures of an answer. They arrive as data URLs; as bytes they take less memory. Lists show small copies.

const SMALL = 128; // px, for 64 px on a high-density screen

/** The bytes of a base64 data URL; null if it is not one. */
export function bytesOf(address) {
  const parts = /^data:(image\/[\w.+-]+);base64,(.*)$/s.exec(address ?? "");
  if (parts === null) return null;
  const text = atob(parts[2]);
  return new Blob([Uint8Array.from(text, (letter) => letter.charCodeAt(0))], { type: parts[1] });
}

export const addressOf = (bytes) => (bytes === null ? null : URL.createObjectURL(bytes));

/** The address of a small copy; null if the browser cannot show the picture. */
export async function smallCopy(bytes) {
  if (bytes === null) return null;
  try {
    const whole = await createImageBitmap(bytes);
    const scale = Math.min(1, SMALL / Math.min(whole.width, whole.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(whole.width * scale));
    canvas.height = Math.max(1, Math.round(whole.height * scale));
    const brush = canvas.getContext("2d");
    brush.imageSmoothingQuality = "high";
    brush.drawImage(whole, 0, 0, canvas.width, canvas.height);
    whole.close();
    return addressOf(await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85)));
  } catch {
    return null;
  }
}

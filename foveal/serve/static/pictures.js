// Pictures of an answer. They come as data addresses; kept as bytes they take less memory, and lists get small copies.

const SMALL = 128; // px, for 64 px on a screen of double density

/** The bytes of a base64 data address; null where there is none. */
export function bytesOf(address) {
  const parts = /^data:(image\/[\w.+-]+);base64,(.*)$/s.exec(address ?? "");
  if (parts === null) return null;
  const text = atob(parts[2]);
  return new Blob([Uint8Array.from(text, (letter) => letter.charCodeAt(0))], { type: parts[1] });
}

export const addressOf = (bytes) => (bytes === null ? null : URL.createObjectURL(bytes));

/** The address of a small copy; null where the picture cannot be shown. */
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

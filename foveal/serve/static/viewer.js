// The photograph with the map over it: zoom, pan, strength of the map.

import { find, show } from "./elements.js";
import { percent, say } from "./words.js";
import { holds } from "./worklist.js";

const MOST = 8; // times
const STEP = 1.25; // times, of a key or a button
const STRIDE = 60; // px that an arrow key moves
const ARROWS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

const stage = find("stage");
const layers = find("layers");
const heat = find("heat");
const strength = find("strength");
const view = { scale: 1, x: 0, y: 0 };
const pointers = new Map();
let shown = null;
let drawn = null; // the address of the picture shown
let before = 50; // strength to restore when the map is switched on again

function place() {
  const { width, height } = stage.getBoundingClientRect();
  // The picture always covers its frame and cannot be moved out of view.
  view.x = Math.min(0, Math.max(width * (1 - view.scale), view.x));
  view.y = Math.min(0, Math.max(height * (1 - view.scale), view.y));
  layers.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
  stage.classList.toggle("zoomed", view.scale > 1);
  find("zoom").textContent = say("percent", { number: Math.round(100 * view.scale) });
  find("zoom-out").disabled = view.scale <= 1;
  find("zoom-in").disabled = view.scale >= MOST;
  find("zoom-reset").disabled = view.scale <= 1;
}

function zoomAround(factor, clientX, clientY) {
  const frame = stage.getBoundingClientRect();
  const scale = Math.min(MOST, Math.max(1, view.scale * factor));
  const x = (clientX ?? frame.left + frame.width / 2) - frame.left;
  const y = (clientY ?? frame.top + frame.height / 2) - frame.top;
  view.x = x - ((x - view.x) * scale) / view.scale;
  view.y = y - ((y - view.y) * scale) / view.scale;
  view.scale = scale;
  place();
}

function move(x, y) {
  view.x += x;
  view.y += y;
  place();
}

export function reset() {
  Object.assign(view, { scale: 1, x: 0, y: 0 });
  place();
}

function paint() {
  heat.style.opacity = String(strength.value / 100);
  const text = percent(strength.value / 100);
  find("strength-value").textContent = text;
  strength.setAttribute("aria-valuetext", text);
}

/** Switch the map off, or on with its previous strength. */
export function toggleMap() {
  if (shown?.heat == null) return;
  if (strength.value > 0) before = strength.value;
  strength.value = strength.value > 0 ? 0 : before;
  paint();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const arrow = ARROWS[event.key];
  if (event.key === "+" || event.key === "=") zoomAround(STEP);
  else if (event.key === "-" || event.key === "_") zoomAround(1 / STEP);
  else if (event.key === "0") reset();
  else if (arrow && view.scale > 1) move(STRIDE * arrow[0], STRIDE * arrow[1]);
  else return;
  event.preventDefault();
}

function onWheel(event) {
  // If the picture cannot get smaller, let the page scroll.
  if (event.deltaY >= 0 && view.scale <= 1) return;
  event.preventDefault();
  const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
  zoomAround(Math.exp(-event.deltaY * lines * 0.002), event.clientX, event.clientY);
}

function onPointerMove(event) {
  const last = pointers.get(event.pointerId);
  if (last === undefined) return;
  if (pointers.size === 2) {
    const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    const apart = (point) => Math.hypot(point.clientX - other.clientX, point.clientY - other.clientY) || 1;
    zoomAround(apart(event) / apart(last), (event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2);
  }
  const share = 1 / pointers.size; // two fingers moving together must move the picture only once
  move((event.clientX - last.clientX) * share, (event.clientY - last.clientY) * share);
  pointers.set(event.pointerId, { clientX: event.clientX, clientY: event.clientY });
}

/** The words that say why there is no map: the server draws one for every grade that something in the retina raises. */
function whyNoMap(answer, model) {
  if (!model.overlay) return "viewer.noMaps";
  return answer.answer === "graded" ? "viewer.noMap.flat" : "viewer.noMap.ungradable";
}

/** `answer`: the result to show, with the addresses of its picture and map; `model`: whether the grader draws maps. */
export function showPicture(answer, model) {
  const fresh = answer !== shown || answer.picture !== drawn;
  shown = answer;
  drawn = answer.picture;
  const picture = find("picture");
  show(stage, answer.picture !== null);
  show(find("viewer-controls"), answer.picture !== null);
  show(find("no-picture"), answer.picture === null);
  find("no-picture").textContent = say(answer.file !== null ? "viewer.none" : holds(answer.sha256) ? "viewer.opening" : "viewer.again");
  for (const id of ["map-sentence", "viewer-how"]) show(find(id), answer.picture !== null);
  const alarms = [answer.heat_at_border === true && "viewer.border", answer.heat !== null && model.maps_failed && "viewer.failed"];
  const alarm = alarms.filter(Boolean).map((words) => say(words)).join(" ");
  find("map-alarm").textContent = alarm;
  show(find("map-alarm"), alarm !== "");
  const trusted = answer.heat !== null && !model.maps_failed;
  show(heat, trusted);
  show(find("strength-field"), trusted);
  stage.setAttribute("aria-label", say("viewer.label", { name: answer.name }));
  picture.alt = say("viewer.picture", { name: answer.name });
  find("map-sentence").textContent = say(answer.heat === null ? whyNoMap(answer, model) : trusted ? "viewer.map" : "viewer.failed");
  paint();
  if (!fresh) return place();
  if (answer.picture !== null) {
    picture.src = answer.picture;
    stage.style.aspectRatio = `${answer.width || 1} / ${answer.height || 1}`;
  }
  if (answer.heat !== null) heat.src = answer.heat;
  reset();
}

strength.addEventListener("input", paint);
stage.addEventListener("keydown", onKey);
stage.addEventListener("wheel", onWheel, { passive: false });
stage.addEventListener("dblclick", reset);
stage.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  stage.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, { clientX: event.clientX, clientY: event.clientY });
});
stage.addEventListener("pointermove", onPointerMove);
for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
  stage.addEventListener(end, (event) => pointers.delete(event.pointerId));
}
find("zoom-in").addEventListener("click", () => zoomAround(STEP));
find("zoom-out").addEventListener("click", () => zoomAround(1 / STEP));
find("zoom-reset").addEventListener("click", reset);
new ResizeObserver(place).observe(stage);

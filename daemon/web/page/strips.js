// The strip of a window's frames.

import { clock, make } from "./elements.js";
import { told } from "./told.js";

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    clearTimeout(target.soon);
    // what only rushes past is not asked for
    if (isIntersecting) target.soon = setTimeout(() => { target.src = target.dataset.src; seen.unobserve(target); }, 300);
  }
}, { rootMargin: "100px" });

/** Return the picture of a window's frames, which is asked for once it is in sight; null where none may be shown. */
export function strip(item) {
  if (!item.strip || !told.may) return null;
  const [count, width, data] = item.strip, times = item.message.frames?.pts_ns ?? [];
  const first = times.length ? clock(times[0]) : "", last = times.length ? clock(times[times.length - 1]) : "";
  const picture = make("img", { className: "strip", decoding: "async", width: count * width * 0.75, height: 54,
    alt: `${times.length || count} frames${first ? ` from ${first} to ${last}` : ""}`, "data-src": `/strips/${told.epoch}-${item.number}` });
  picture.addEventListener("error", () => picture.remove());
  if (data) picture.src = `data:image/jpeg;base64,${data}`;
  else seen.observe(picture);
  return picture;
}

// The captions and rejections that were published, those that the filter lets through, and where the reader is in them.

import { told } from "./told.js";

export const PAGE = 100; // rows of the document
export const items = []; // newest first
export const shown = []; // those of the items that the filter lets through, newest first
export const arrived = []; // since it was last drawn, oldest first
export const filter = { words: [], source: "", status: "" };
export const place = { page: 0, offset: 0, paused: false, newer: 0, missed: 0 }; // `offset` is the first row that is drawn, of `shown`

function itemOf(entry) {
  const message = entry.message, span = message.window ?? null, isRejection = message.type === "captiond.clip.v1";
  const name = message.clip_name || message.clip_id || "";
  const status = isRejection ? "rejected" : String(message.status ?? "unknown");
  const text = isRejection ? String(message.detail ?? "") : String(message.text ?? "");
  return { number: entry.number, at: entry.at_ms, strip: entry.strip, message, span, name, status, text, isRejection,
    clip: String(message.clip_id), source: String(message.source ?? ""),
    found: `${text}\n${name}\n${message.source}\n${message.reason ?? ""}\n${message.model ?? ""}`.toLowerCase() };
}

function lets(item) {
  return (!filter.source || item.source === filter.source) && (!filter.status || item.status === filter.status) &&
    filter.words.every((word) => item.found.includes(word));
}

/** Take what arrived into the list. */
export function settle() {
  if (!arrived.length) return;
  const fresh = arrived.splice(0).reverse();
  items.unshift(...fresh);
  for (const old of items.slice(PAGE, PAGE + fresh.length)) old.strip?.splice(2); // it can be asked for again
  const passing = fresh.filter(lets);
  shown.unshift(...passing);
  if (place.paused || place.page > 0) place.newer += passing.length;
  if (place.page > 0) place.offset += passing.length;
  if (items.length > told.keep) {
    items.length = told.keep;
    const oldest = items[told.keep - 1].number;
    while (shown.length && shown[shown.length - 1].number < oldest) shown.pop();
  }
}

/** Choose anew what the filter lets through. */
export function sift() {
  settle();
  shown.splice(0, shown.length, ...items.filter(lets));
  place.offset = place.page = place.newer = 0;
}

/** Note an entry that was published. */
export function arrive(entry) {
  arrived.push(itemOf(entry));
  if (arrived.length > 2 * told.keep) arrived.splice(0, arrived.length - told.keep);
}

/** Forget all of it, as another daemon counts from the beginning. */
export function forget() {
  items.length = shown.length = arrived.length = 0;
  place.missed = place.page = place.offset = 0;
}

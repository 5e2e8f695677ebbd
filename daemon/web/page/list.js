// The list of captions, newest first.
//
// It holds at most PAGE rows however much is kept.

import { PAGE, arrived, filter, items, place, settle, shown } from "./captions.js";
import { openClip } from "./clip.js";
import { $, clock, make, number, tint } from "./elements.js";
import { strip } from "./strips.js";
import { told } from "./told.js";

const ROWS_A_FRAME = 20; // that are made anew
let drawn = 0; // captions there were when it was last drawn
const rows = new Map(); // number -> the row's element

function captionRow(item) {
  const { message } = item, model = item.isRejection ? "" : String(message.model ?? "");
  const opens = make("button", { type: "button", className: "open", textContent: item.name });
  opens.addEventListener("click", () => openClip(item));
  const about = make("p", { className: "about" }, opens);
  const say = (text, className = "") => { if (text) about.append(make("span", { className, textContent: text })); };
  say(item.status, "state");
  if (item.span) say(`${clock(item.span.start_ns)} – ${clock(item.span.exclusive_end_ns)}`);
  say(item.source);
  say(message.prompt ?? "");
  say(model);
  if (item.isRejection) say(message.reason);
  else say(message.detail);
  if (message.stream && typeof message.stream === "object") say(streamSaid(message.stream));
  const text = make("p", { className: item.text ? "text" : "text none", textContent: item.text || "No text" });
  const at = new Date(item.at), day = at.toDateString() === new Date().toDateString() ? "" : `${at.toLocaleDateString()} `;
  const time = make("time", { dateTime: at.toISOString(), textContent: day + at.toLocaleTimeString() });
  const row = make("li", { className: "caption", "data-tint": tint(item.status), tabIndex: -1 }, text, time, about);
  const picture = strip(item);
  if (picture) row.append(picture);
  return row;
}

function streamSaid(fields) {
  const [begins, ends] = [new Date(fields.wall_start), new Date(fields.wall_end)];
  if (!isNaN(begins) && !isNaN(ends)) return `live ${begins.toLocaleString()} – ${ends.toLocaleTimeString()}`;
  return Object.entries(fields).filter(([, value]) => ["string", "number"].includes(typeof value)).slice(0, 3)
    .map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`).join(", ");
}

export function drawList(anew, calm = anew) {
  const wanted = shown.slice(place.offset, place.offset + PAGE), list = $("captions"), numbers = new Set(wanted.map((item) => item.number));
  if (anew) { rows.clear(); list.replaceChildren(); }
  for (const [number, row] of rows) {
    if (!numbers.has(number)) {
      if (row.contains(document.activeElement)) list.focus({ preventScroll: true });
      row.remove();
      rows.delete(number);
    }
  }
  let before = list.firstChild, made = 0;
  for (const item of wanted) {
    let row = rows.get(item.number);
    if (row && row === before) { before = before.nextSibling; continue; }
    if (!row) {
      if (++made > ROWS_A_FRAME) { requestAnimationFrame(() => drawList(false, calm)); break; }
      row = captionRow(item);
      if (drawn && !calm) row.classList.add("new");
      rows.set(item.number, row);
    }
    list.insertBefore(row, before);
  }
}

export function draw(anew = false) {
  if (!place.paused || anew) settle();
  if (place.page === 0 && !place.paused) place.offset = place.newer = 0;
  drawList(anew);
  const total = shown.length, filtered = filter.words.length || filter.source || filter.status;
  $("count").textContent = !items.length ? "" : (filtered ? `${number(total)} of ${number(items.length)} captions` :
    items.length === 1 ? "1 caption" : `The last ${number(items.length)} captions, newest first`) + (place.newer + (place.paused ? arrived.length : 0) ?
    `; ${number(place.newer + (place.paused ? arrived.length : 0))} newer` : "") + (place.missed ? `; ${number(place.missed)} were missed` : "");
  $("empty").hidden = total > 0;
  $("empty").textContent = items.length ? "No caption fits the filter." : told.keep === 0 ?
    "Nothing is kept for this page: web.keep is 0." : "No captions yet. They appear here as they are published.";
  $("newer").hidden = place.offset === 0;
  $("older").hidden = place.offset + PAGE >= total;
  $("place").textContent = total > PAGE ? `${number(place.offset + 1)} to ${number(Math.min(place.offset + PAGE, total))} of ${number(total)}` : "";
  drawn = items.length;
}

const offered = { source: new Set(), status: new Set() };

export function offerFilters() {
  const add = (name, value) => {
    if (!value || offered[name].has(value)) return;
    offered[name].add(value);
    const select = $(name), option = make("option", { value, textContent: value });
    select.insertBefore(option, [...select.options].slice(1).find((other) => other.value > value) ?? null);
  };
  for (const name of Object.keys(told.state?.sources ?? {})) add("source", name);
  for (const item of arrived) { add("source", item.source); add("status", item.status); }
}

export function turn(by) {
  settle();
  place.offset = Math.max(0, place.offset + by * PAGE);
  if (place.offset < PAGE && by < 0) place.offset = 0;
  place.page = Math.ceil(place.offset / PAGE);
  draw(true);
  scrollTo({ top: $("filter").offsetTop });
  $("captions").focus({ preventScroll: true });
}

export function pause() {
  place.paused = !place.paused;
  $("pause").setAttribute("aria-pressed", String(place.paused));
  $("pause").textContent = place.paused ? "Resume" : "Pause";
  draw();
}

export function step(by) {
  const all = [...$("captions").children], at = all.findIndex((row) => row.contains(document.activeElement));
  const next = all[at < 0 ? 0 : Math.min(all.length - 1, Math.max(0, at + by))];
  next?.querySelector(".open").focus();
  next?.scrollIntoView({ block: "nearest" });
}

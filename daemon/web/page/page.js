// The page: what is published, newest first, and how the daemon is.
//
// It is drawn at most four times a second. Everything that a sender or a model wrote goes into the document as text, never
// as markup.

import { arrive, filter, forget, place, sift } from "./captions.js";
import { closeClip, drawClip, replay } from "./clip.js";
import { $, make } from "./elements.js";
import { draw, drawList, offerFilters, pause, step, turn } from "./list.js";
import { told } from "./told.js";
import { drawCharts, drawState, headline } from "./work.js";

const DRAW_MS = 250;
let timer = 0, drawnAt = 0, stream = null;

function soon() {
  if (timer) return;
  timer = setTimeout(() => requestAnimationFrame(() => {
    timer = 0;
    drawnAt = performance.now();
    offerFilters();
    draw();
    drawClip();
  }), Math.max(0, drawnAt + DRAW_MS - performance.now()));
}

async function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  window.history.replaceState(null, "", location.pathname);
  const answer = await fetch("/session", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }) });
  if (!answer.ok) $("notices").replaceChildren(make("p", { className: "notice bad", textContent: "The token in the address is not the daemon's." }));
}

function follow() {
  stream = new EventSource("/events");
  stream.addEventListener("hello", (event) => {
    const hello = JSON.parse(event.data);
    const { epoch, keep, may, history, state, stay } = hello;
    if (epoch !== told.epoch) { forget(); drawList(true); }
    Object.assign(told, { epoch, keep, may, history, state, stay });
    drawState();
    drawCharts();
    soon();
  });
  stream.addEventListener("entry", (event) => {
    try { arrive(JSON.parse(event.data)); } catch (fault) { console.error(fault); }
    soon();
  });
  stream.addEventListener("missed", (event) => { place.missed += Number(event.data); soon(); });
  stream.addEventListener("state", (event) => {
    told.state = JSON.parse(event.data);
    if (told.state.point) told.history = [...told.history, told.state.point].slice(-360);
    drawState();
    drawCharts();
  });
  stream.addEventListener("error", () => {
    headline("away", "The daemon does not answer");
    if (stream.readyState === EventSource.CLOSED) setTimeout(follow, 3000);
  });
}

function choose() {
  filter.words = $("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  filter.source = $("source").value;
  filter.status = $("status").value;
  sift();
  draw(true);
}

$("filter").addEventListener("submit", (event) => event.preventDefault());
for (const id of ["words", "source", "status"]) $(id).addEventListener("input", choose);
$("pause").addEventListener("click", pause);
$("newer").addEventListener("click", () => turn(-1));
$("older").addEventListener("click", () => turn(1));
$("replay").addEventListener("click", replay);
$("close").addEventListener("click", () => $("clip").close());
$("clip").addEventListener("close", closeClip);
$("clip").addEventListener("click", (event) => { if (event.target === $("clip")) $("clip").close(); });
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("clip").open) return;
  if (event.target.matches("input, select, textarea")) { if (event.key === "Escape") event.target.blur(); return; }
  const act = { "/": () => $("words").focus(), j: () => step(1), k: () => step(-1), p: pause }[event.key];
  if (act) { event.preventDefault(); act(); }
});

takeToken().catch(() => {}).finally(follow);

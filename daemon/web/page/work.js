// How the daemon is: its state, what it waits for, and charts of the last hour.

import { $, make, number } from "./elements.js";
import { told } from "./told.js";

const CHARTS = [
  ["Windows a second", (point) => point.windows_per_s],
  ["In the engine", (point) => point.in_engine, (point) => point.slots],
  ["Windows waiting for it", (point) => point.waiting],
  ["Clips waiting", (point) => point.lag],
];
const HOUR_MS = 3600e3, LEAST_MS = 300e3, SVG = "http://www.w3.org/2000/svg";

function path(className, points, value, top, newest, span, closed) {
  const x = (at) => (100 - (newest - at) / span * 100).toFixed(2), y = (v) => (40 - v / top * 36).toFixed(2);
  let d = "";
  for (const [index, point] of points.entries()) d += `${index ? "L" : "M"}${x(point.at_ms)} ${y(value(point))}`;
  if (closed && points.length) d += `L${x(points[points.length - 1].at_ms)} 40L${x(points[0].at_ms)} 40Z`;
  const element = document.createElementNS(SVG, "path");
  element.setAttribute("class", className);
  element.setAttribute("d", d);
  return element;
}

export function drawCharts() {
  const { state, history } = told, windows = state?.windows ?? {}, points = history.slice();
  if (state) points.push({ at_ms: Math.max(Date.now(), points.at(-1)?.at_ms ?? 0), windows_per_s: state.per_second?.windows ?? 0,
    in_engine: windows.in_engine ?? 0, slots: windows.engine_slots ?? 0, waiting: windows.waiting ?? 0, lag: state.lag ?? 0 });
  if (!points.length) return;
  const newest = points.at(-1).at_ms, span = Math.min(HOUR_MS, Math.max(LEAST_MS, newest - points[0].at_ms));
  const minutes = Math.round(span / 60e3);
  const charts = CHARTS.map(([title, value, limit]) => {
    const values = points.map(value), now = values.at(-1), most = Math.max(0, ...values);
    const top = Math.max(most, limit ? limit(points.at(-1)) : 0, 1);
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 100 40");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${title} over the last ${minutes} minutes: now ${number(now)}, at most ${number(most)}`);
    if (limit) svg.append(path("limit", points, limit, top, newest, span, false));
    svg.append(path("area", points, value, top, newest, span, true), path("line", points, value, top, newest, span, false));
    const said = limit ? `${number(now)} of ${number(limit(points.at(-1)))}` : number(now);
    return make("figure", { className: "chart" }, make("figcaption", {}, make("span", { textContent: title }), make("b", { textContent: said })), svg);
  });
  $("charts").replaceChildren(...charts);
}

export function drawState() {
  const { state } = told;
  if (!state) return;
  const ready = state.ready, why = state.why_not_ready || state.phase || "";
  $("version").textContent = state.version ?? "";
  $("model").textContent = state.model ?? "";
  headline(ready ? "ready" : "waiting", ready ? "Ready" : why.startsWith("starting") ? "Starting" : why === "draining" ? "Stopping" : "Waiting");
  const rates = state.per_second ?? {};
  $("bottleneck").textContent = ready || why === "draining" ? state.bottleneck ?? "" : why === "starting" ?
    "The model is loaded; clips are taken when it has answered once." : "";
  $("bottleneck").hidden = !$("bottleneck").textContent;
  const notices = [];
  const notice = (title, text) => notices.push(make("p", { className: "notice" }, make("strong", { textContent: title }), text));
  for (const [part, text] of Object.entries(state.waiting_for ?? {})) notice(part in (state.sources ?? {}) ? `Source ${part} waits` : `The ${part} waits`, `For ${text}.`);
  for (const [name, text] of Object.entries(state.paused ?? {})) notice(`Source ${name} is paused`, text);
  if (!ready && !notices.length && why && why !== "starting" && why !== "draining") notice("Not ready", why);
  for (const [layer, text] of Object.entries(state.sandbox_missing ?? {})) notice(`The decoders' sandbox lacks ${layer}`, String(text));
  if (!told.may) notices.push(make("p", { className: "notice" }, make("strong", { textContent: "Text only" }),
    "Pictures, videos and replays need the page's token: open the address in the file page-address of the state folder."));
  if ($("notices").textContent !== notices.map((one) => one.textContent).join("")) $("notices").replaceChildren(...notices);
  $("sources").tBodies[0].replaceChildren(...Object.entries(state.sources ?? {}).map(([name, one]) => {
    const live = state.streams?.[name];
    const said = (live && (live.connected === false ? `away${live.why ? `: ${live.why}` : ""}` : live.state ?? "connected")) ?? one.state ?? (state.paused?.[name] ? "paused" : state.waiting_for?.[name] ? "waiting" : "");
    const title = make("th", { scope: "row" }, name);
    if (said) title.append(make("span", { className: "badge", textContent: String(said) }));
    return make("tr", {}, title, ...["received", "in_flight", "done", "rejected"].map((key) => make("td", { textContent: number(one[key] ?? 0) })));
  }));
  document.title = ready ? `captiond: ${number(rates.windows ?? 0)} windows/s` : "captiond: not ready";
}

export function headline(kind, text) {
  const line = $("headline");
  line.dataset.state = kind;
  if (line.textContent !== text) line.textContent = text;
}

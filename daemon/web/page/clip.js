// One clip: its video with its captions, its windows on a timeline, and its replay.

import { items } from "./captions.js";
import { $, NS, clock, make, tint } from "./elements.js";
import { strip } from "./strips.js";
import { told } from "./told.js";

const INSIDE_S = 0.01; // behind where a window begins: on the border itself a player shows two cues
let opened = null; // { item, video, windows, count, replayed }

const inNumber = (item) => `${told.epoch}-${item.number}`;
const begin = (item) => ((item.message.media_start_ns ?? 0) + item.span.start_ns) / NS;
const end = (item) => ((item.message.media_start_ns ?? 0) + item.span.exclusive_end_ns) / NS;

export function openClip(item) {
  opened = { item, video: null, count: -1, windows: [] };
  $("clip-title").textContent = item.name;
  $("clip-said").hidden = true;
  $("stage").replaceChildren();
  const isFile = told.stay.includes(item.source);
  $("replay").disabled = !told.may;
  $("replay").title = told.may ? "Send this clip through again" : "This needs the page's token";
  if (isFile && told.may) showVideo(item);
  else say(told.may ? "Clips of this source do not stay where the daemon finds them: their frames are what is left." : "Videos and pictures need the page's token.");
  drawClip();
  $("clip").showModal();
  $("close").focus();
}

function showVideo(item) {
  const video = make("video", { controls: true, preload: "metadata", src: `/clips/${inNumber(item)}/video` });
  video.setAttribute("aria-label", item.name);
  const track = make("track", { kind: "captions", srclang: "en", label: "Captions", src: `/clips/${inNumber(item)}/captions.vtt`, default: true });
  video.append(track);
  video.addEventListener("loadedmetadata", () => { if (item.span) video.currentTime = begin(item) + INSIDE_S; }, { once: true });
  video.addEventListener("timeupdate", markNow);
  video.addEventListener("error", () => {
    if (opened?.video !== video) return; // it was closed meanwhile
    video.remove();
    opened.video = null;
    if (!opened.replayed) say("This browser can't play the clip, or it is not there any more: its frames are what is left.");
    opened.count = -1;
    drawClip();
  });
  opened.video = video;
  $("stage").replaceChildren(video);
}

export function drawClip() {
  if (!opened) return;
  const mine = items.filter((item) => item.clip === opened.item.clip && item.source === opened.item.source);
  if (mine.length === opened.count) return;
  opened.count = mine.length;
  const windows = new Map();
  for (const item of mine) {
    const key = item.span ? `${item.span.index}/${item.message.prompt ?? ""}` : "";
    if (item.span && !windows.has(key)) windows.set(key, item); // the newest stands
  }
  opened.windows = [...windows.values()].sort((one, other) => one.span.index - other.span.index || one.number - other.number);
  const rejection = mine.find((item) => item.isRejection);
  $("clip-about").textContent = [opened.item.source, `${opened.windows.length} caption${opened.windows.length === 1 ? "" : "s"} kept`,
    rejection ? `rejected as ${rejection.message.reason}: ${rejection.text}` : ""].filter(Boolean).join(" · ");
  const marks = [], lines = [];
  for (const item of opened.windows) {
    const says = `${clock(item.span.start_ns)} – ${clock(item.span.exclusive_end_ns)}, ${item.status}`;
    const mark = make("button", { type: "button", title: says, "aria-label": `Go to ${says}`, "data-tint": tint(item.status) });
    mark.style.flexGrow = Math.max(1, (end(item) - begin(item)) * 1000);
    const go = make("button", { type: "button", textContent: says });
    const picture = opened.video ? null : strip(item);
    const line = make("li", { "data-tint": tint(item.status) }, go, make("p", { textContent: item.text || "No text" }), picture);
    for (const button of [mark, go]) button.addEventListener("click", () => seek(item));
    item.mark = mark;
    item.line = line;
    marks.push(mark);
    lines.push(line);
  }
  const oneEach = opened.windows.filter((item, index, all) => !index || all[index - 1].span.index !== item.span.index);
  $("timeline").replaceChildren(...oneEach.map((item) => item.mark));
  $("timeline").hidden = !marks.length;
  $("clip-windows").replaceChildren(...lines);
  if (opened.video && opened.count > 0) refreshTrack();
  markNow();
}

function refreshTrack() {
  const track = opened.video.querySelector("track");
  if (track.dataset.count && track.dataset.count !== String(opened.count)) {
    track.replaceWith(make("track", { kind: "captions", srclang: "en", label: "Captions", default: true,
      src: `/clips/${inNumber(opened.item)}/captions.vtt?${opened.count}`, "data-count": String(opened.count) }));
  } else track.dataset.count = String(opened.count);
}

function seek(item) {
  if (!opened?.video) { item.line.scrollIntoView({ block: "nearest" }); return; }
  opened.video.currentTime = begin(item) + INSIDE_S;
  markNow();
}

function markNow() {
  if (!opened) return;
  const now = opened.video?.currentTime ?? -1;
  for (const item of opened.windows) {
    const isNow = now >= begin(item) && now < end(item);
    item.mark.setAttribute("aria-current", String(isNow));
    item.line.classList.toggle("now", isNow);
  }
}

function say(text) {
  $("clip-said").textContent = text;
  $("clip-said").hidden = !text;
}

export async function replay() {
  const clip = opened, tell = (text) => { if (opened === clip) say(text); };
  clip.replayed = true; // what is said of that stands, whatever becomes of the video
  $("replay").disabled = true;
  tell("Asking");
  try {
    const answer = await fetch(`/clips/${inNumber(clip.item)}/replay`, { method: "POST" });
    const said = answer.headers.get("content-type")?.includes("json") ? await answer.json() : { error: (await answer.text()).trim() };
    tell(answer.ok ? "The clip goes through again." : `The clip does not go through again: ${said.error}.`.replace("..", "."));
  } catch { tell("The daemon does not answer."); }
  if (opened === clip) $("replay").disabled = false;
}

export function closeClip() {
  const video = opened?.video;
  opened = null;
  if (video) { video.pause(); video.removeAttribute("src"); video.load(); }
  $("stage").replaceChildren();
}

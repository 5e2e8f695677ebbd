// Elements of the page, and how values are written. Text goes into them as text, never as markup.

export const NS = 1e9;
const TINTS = { success: "good", unchanged: "quiet", empty: "quiet", gap: "quiet", skipped: "wait", truncated: "wait",
  looping: "wait", invalid: "wait", refused: "wait", error: "bad", rejected: "bad" };

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("data-") || name.startsWith("aria-") || name === "role" || name === "scope") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const tint = (status) => TINTS[status] ?? "other";
export const number = (value) => (value >= 100 ? Math.round(value) : Math.round(value * 10) / 10).toLocaleString("en");

export function clock(ns) {
  const all = Math.max(0, ns) / NS, hours = Math.floor(all / 3600), minutes = Math.floor(all / 60) % 60;
  const seconds = (all % 60).toFixed(1).padStart(4, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${seconds}` : `${minutes}:${seconds}`;
}

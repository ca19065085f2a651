// The picture: drag and wheel to move, a word to filter, a click to follow what a DELETE takes along.
"use strict";
const graph = JSON.parse(document.getElementById("graph").textContent);
const picture = document.getElementById("picture");
const told = document.getElementById("told");
const view = picture.querySelector("#view");
const boxes = [...picture.querySelectorAll(".box")];
const arrows = [...picture.querySelectorAll(".arrow")];
const search = document.getElementById("search");
const count = document.getElementById("count");

let scale = 1, left = 0, top_ = 0;
function place() {
  view.setAttribute("transform", `translate(${left} ${top_}) scale(${scale})`);
  picture.classList.toggle("far", scale < 0.35);
  // Names that are shown from afar all the same are as large as near by.
  view.style.setProperty("--name", `${11 / scale}px`);
  spread();
}
// Where few are shown from afar, a name that would lie on another goes below or above it.
function spread() {
  const few = picture.classList.contains("few"), size = Math.max(12, 11 / scale), placed = [];
  for (const box of boxes) {
    const name = box.querySelector("text");
    name.removeAttribute("dy");
    if (!few || box.classList.contains("gone")) continue;
    const x = +name.getAttribute("x"), y = +name.getAttribute("y");
    const half = name.textContent.length * size * 0.31;
    const shift = (step) => Math.ceil(step / 2) * (step % 2 ? 1.2 : -1.2) * size;
    const lies = (at) => placed.some((one) =>
      Math.abs(one.x - x) < one.half + half && Math.abs(one.y - at) < size * 1.1);
    let step = 0;
    while (lies(y + shift(step))) step++;
    if (step) name.setAttribute("dy", shift(step).toFixed(1));
    placed.push({ x, y: y + shift(step), half });
  }
}
function fit(shown) {
  const room = picture.getBoundingClientRect();
  const area = shown.length ? around(shown) : { x: 0, y: 0, width: graph.width, height: graph.height };
  scale = Math.min(1.2, room.width / (area.width + 80), room.height / (area.height + 80));
  left = room.width / 2 - (area.x + area.width / 2) * scale;
  top_ = room.height / 2 - (area.y + area.height / 2) * scale;
  place();
}
function around(shown) {
  const all = shown.map((number) => boxes[number].getBBox());
  const x = Math.min(...all.map((one) => one.x)), y = Math.min(...all.map((one) => one.y));
  return {
    x, y,
    width: Math.max(...all.map((one) => one.x + one.width)) - x,
    height: Math.max(...all.map((one) => one.y + one.height)) - y,
  };
}
picture.addEventListener("wheel", (event) => {
  event.preventDefault();
  const room = picture.getBoundingClientRect();
  const factor = Math.exp(-event.deltaY * 0.0015);
  const x = event.clientX - room.left, y = event.clientY - room.top;
  const next = Math.min(4, Math.max(0.02, scale * factor));
  left = x - (x - left) * next / scale;
  top_ = y - (y - top_) * next / scale;
  scale = next;
  place();
}, { passive: false });
let drag = null;
picture.addEventListener("pointerdown", (event) => {
  drag = { x: event.clientX - left, y: event.clientY - top_, moved: false };
});
window.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const x = event.clientX - drag.x, y = event.clientY - drag.y;
  if (Math.abs(x - left) + Math.abs(y - top_) > 3) drag.moved = true;
  left = x; top_ = y;
  place();
});
window.addEventListener("pointerup", () => { setTimeout(() => { drag = null; }); });

// Which boxes and arrows the word and the ticks leave.
function filter() {
  const rules = new Set([...document.querySelectorAll("#tools [name=rule]:checked")].map((one) => one.value));
  const onlyCycles = document.getElementById("cycles").checked;
  const word = search.value.trim().toLowerCase();
  const named = graph.boxes.findIndex((box) => box.table.toLowerCase() === word);
  // A whole name means that table and what CASCADE takes along, not all that begin like it.
  const tree = named < 0 ? null : cascade(named);
  const meant = graph.boxes.map((box, number) =>
    tree ? number === named : !word || box.table.toLowerCase().includes(word));
  const shown = new Set();
  arrows.forEach((element, number) => {
    const arrow = graph.arrows[number];
    const stays = rules.has(arrow.rule) && (!onlyCycles || arrow.cyclic) &&
      (meant[arrow.source] || meant[arrow.target] || (tree !== null && tree.along.has(number)));
    element.classList.toggle("gone", !stays);
    if (stays) { shown.add(arrow.source); shown.add(arrow.target); }
  });
  boxes.forEach((element, number) => {
    const stays = shown.has(number) || (word && meant[number]);
    if (stays) shown.add(number);
    element.classList.toggle("gone", !stays);
  });
  picture.classList.toggle("few", shown.size <= 60);
  count.textContent = `${shown.size} of ${boxes.length} tables`;
  return [...shown];
}
document.getElementById("tools").addEventListener("input", () => fit(filter()));

// What a DELETE in a table takes along by CASCADE, level by level.
function cascade(root) {
  const level = new Map([[root, 0]]), along = new Set(), waiting = [root];
  while (waiting.length) {
    const at = waiting.shift();
    for (const number of graph.into[at]) {
      const arrow = graph.arrows[number];
      if (arrow.rule !== "CASCADE") continue;
      along.add(number);
      if (!level.has(arrow.source)) { level.set(arrow.source, level.get(at) + 1); waiting.push(arrow.source); }
    }
  }
  return { level, along };
}
graph.into = graph.boxes.map(() => []);
graph.from = graph.boxes.map(() => []);
graph.arrows.forEach((arrow, number) => {
  graph.into[arrow.target].push(number);
  graph.from[arrow.source].push(number);
});
function line(parent, tag, text, chosen) {
  const element = parent.appendChild(document.createElement(tag));
  element.textContent = text;
  if (chosen !== undefined) {
    element.style.cursor = "pointer";
    element.addEventListener("click", () => choose(chosen));
  }
  return element;
}
function choose(number) {
  told.replaceChildren();
  picture.classList.toggle("picked", number !== null);
  for (const element of [...boxes, ...arrows]) element.classList.remove("on", "chosen");
  if (number === null) return;
  const box = graph.boxes[number];
  const { level, along } = cascade(number);
  boxes[number].classList.add("chosen");
  for (const one of level.keys()) boxes[one].classList.add("on");
  for (const one of [...along, ...graph.into[number], ...graph.from[number]]) {
    arrows[one].classList.add("on");
    boxes[graph.arrows[one].source].classList.add("on");
    boxes[graph.arrows[one].target].classList.add("on");
  }
  line(told, "h3", box.table);
  line(told, "p", box.rows === null ? "never analysed" : `about ${box.rows.toLocaleString("en")} rows`);
  if (level.size > 1) {
    line(told, "h3", `A DELETE here reaches ${level.size - 1} tables by CASCADE`);
    const list = told.appendChild(document.createElement("ul"));
    for (const [one, depth] of level) if (depth) line(list, "li", `${graph.boxes[one].table} (level ${depth})`, one);
  }
  for (const [title, numbers, end] of [
    ["Referenced by", graph.into[number], "source"], ["References", graph.from[number], "target"],
  ]) {
    if (!numbers.length) continue;
    line(told, "h3", title);
    const list = told.appendChild(document.createElement("ul"));
    for (const one of numbers) {
      const arrow = graph.arrows[one];
      line(list, "li", `${arrow.label}: ${arrow.columns}, ${arrow.rule}`, arrow[end]);
    }
  }
  if (box.findings.length) {
    line(told, "h3", "Findings");
    const list = told.appendChild(document.createElement("ul"));
    for (const finding of box.findings) {
      const item = list.appendChild(document.createElement("li"));
      const link = line(item, "a", finding.title);
      link.href = `#${finding.id}`;
    }
  }
}
boxes.forEach((element, number) => element.addEventListener("click", (event) => {
  event.stopPropagation();
  if (!drag || !drag.moved) choose(number);
}));
picture.addEventListener("click", () => { if (!drag || !drag.moved) choose(null); });
document.getElementById("whole").addEventListener("click", () => {
  search.value = ""; choose(null); fit(filter());
});
filter();
fit([]);
const asked = new URLSearchParams(location.hash.slice(1)).get("table");
if (asked) {
  search.value = asked;
  const shown = filter();
  const exact = graph.boxes.findIndex((box) => box.table === asked);
  if (exact >= 0) choose(exact);
  fit(shown);
}

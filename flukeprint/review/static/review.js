// Keys, and photos that are zoomed, moved, turned and compared in step. Without it the pages still show and decide.
"use strict";

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

// --- the two photos ---------------------------------------------------------------------------------------------

const CONTRASTS = ["none", "contrast(1.6)", "contrast(2.6) brightness(1.1)"];
const form = $("#decide");
let alone = false; // about the photo that is shown alone
const lines = $(".lines");
const matches = lines ? JSON.parse(lines.dataset.matches) : [];
const view = { inStep: true, contrast: 0, lines: false };

class Pane {
  constructor(figure) {
    this.figure = figure;
    this.stage = $(".stage", figure);
    this.zoom = 1; this.x = 0; this.y = 0; this.turned = 0; this.flipped = false;
    this.show(JSON.parse(figure.dataset.photos || "[]"), 0);
    this.listen();
  }

  show(photos, index) {
    this.photos = photos;
    const film = $(".film", this.figure);
    film.replaceChildren(...photos.map((photo, place) => this.frame(photo, place)));
    film.hidden = photos.length < 2;
    this.turned = 0; this.flipped = false;
    this.go(index);
  }

  frame(photo, place) {
    const button = document.createElement("button"), picture = document.createElement("img");
    button.type = "button"; button.title = photo.caption;
    picture.src = photo.small; picture.alt = photo.caption; picture.loading = "lazy";
    button.append(picture);
    button.addEventListener("click", () => this.go(place));
    return button;
  }

  go(index) {
    const photo = this.photos[index];
    if (!photo) return;
    this.index = index;
    let picture = $("img", this.stage);
    if (!picture) { picture = document.createElement("img"); picture.draggable = false; this.stage.replaceChildren(picture); }
    picture.onload = () => this.draw();
    if (picture.getAttribute("src") !== photo.src) picture.src = photo.src;
    picture.alt = photo.caption;
    $(".caption .text", this.figure).textContent = photo.caption;
    $(".caption .count", this.figure).textContent = this.photos.length > 1 ? `${index + 1} / ${this.photos.length}` : "";
    $(".warnings", this.figure).replaceChildren(...photo.warnings.map((text) => {
      const span = document.createElement("span");
      span.className = "warning"; span.textContent = text;
      return span;
    }));
    $$(".film button", this.figure).forEach((button, place) => {
      if (place === index) { button.setAttribute("aria-current", "true"); button.scrollIntoView({ block: "nearest", inline: "nearest" }); }
      else button.removeAttribute("aria-current");
    });
    this.draw();
    tellMatched();
    if (this.figure.id === "query") tellScope(photo.name);
  }

  get name() { return this.photos.length ? this.photos[this.index].name : ""; }

  step(by) { if (this.photos.length) this.go((this.index + by + this.photos.length) % this.photos.length); }

  draw() {
    const picture = $("img", this.stage);
    if (!picture) return;
    const { clientWidth: wide, clientHeight: high } = this.stage;
    const fits = this.turned % 180 ? Math.min(wide, high) / Math.max(wide, high) : 1;
    picture.style.transform = `translate(${this.x * wide}px, ${this.y * high}px) scale(${this.zoom * fits})`
      + ` rotate(${this.turned}deg) scaleX(${this.flipped ? -1 : 1})`;
    picture.style.filter = CONTRASTS[view.contrast];
    if (view.lines) drawLines();
  }

  // Where on the page a place of the picture is, given as shares of its width and height; null where it is not seen.
  place_of(x, y) {
    const picture = $("img", this.stage), stage = this.stage.getBoundingClientRect();
    const { naturalWidth: width, naturalHeight: height } = picture;
    if (!width) return null; // it is still on its way
    const fits = Math.min(stage.width / width, stage.height / height);
    const moved = new DOMMatrix(picture.style.transform).transformPoint({ x: (x - 0.5) * width * fits, y: (y - 0.5) * height * fits });
    const [right, down] = [moved.x + stage.width / 2, moved.y + stage.height / 2];
    return right < 0 || down < 0 || right > stage.width || down > stage.height ? null : [stage.left + right, stage.top + down];
  }

  place(zoom, x, y) {
    this.zoom = Math.min(Math.max(zoom, 1), 12);
    const most = (this.zoom - 1) / 2 + 0.25;
    [this.x, this.y] = this.zoom === 1 ? [0, 0] : [x, y].map((value) => Math.min(Math.max(value, -most), most));
    this.draw();
  }

  listen() {
    let from = null;
    const touches = new Map();
    let spread = 0;
    this.stage.addEventListener("pointerdown", (event) => {
      this.stage.setPointerCapture(event.pointerId);
      touches.set(event.pointerId, event);
      from = { x: event.clientX, y: event.clientY };
      spread = distance(touches);
    });
    this.stage.addEventListener("pointermove", (event) => {
      if (!touches.has(event.pointerId)) return;
      touches.set(event.pointerId, event);
      if (touches.size === 2 && spread) {
        const now = distance(touches);
        move(this, this.zoom * now / spread, this.x, this.y);
        spread = now;
      } else if (from) {
        const [dx, dy] = [(event.clientX - from.x) / this.stage.clientWidth, (event.clientY - from.y) / this.stage.clientHeight];
        move(this, this.zoom, this.x + dx, this.y + dy);
        from = { x: event.clientX, y: event.clientY };
      }
    });
    for (const end of ["pointerup", "pointercancel"]) {
      this.stage.addEventListener(end, (event) => { touches.delete(event.pointerId); from = null; });
    }
    this.stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      move(this, this.zoom * Math.exp(-event.deltaY / 400), this.x, this.y);
    }, { passive: false });
    this.stage.addEventListener("dblclick", () => move(this, this.zoom > 1 ? 1 : 2.5, 0, 0));
  }
}

function distance(touches) {
  const [a, b] = [...touches.values()];
  return b ? Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) : 0;
}

const panes = [];
for (const figure of $$(".pane")) panes.push(new Pane(figure));
const [query, candidate] = panes;
tellMatched();

// Move one photo; the other one goes along in step.
function move(pane, zoom, x, y) {
  for (const one of view.inStep ? panes : [pane]) one.place(zoom, x, y);
}

// --- lines between matched keypoints ----------------------------------------------------------------------------

function compared() {
  if (panes.length < 2) return undefined;
  return matches.find((one) => one.query === panes[0].name && one.candidate === panes[1].name);
}

function tellMatched() {
  const says = $(".matched");
  if (says) says.textContent = (compared() || { says: "" }).says;
}

function drawLines() {
  const pair = compared(), from = lines.getBoundingClientRect();
  let line = "", ends = "";
  for (const [x1, y1, x2, y2] of pair ? pair.lines : []) {
    const places = [panes[0].place_of(x1, y1), panes[1].place_of(x2, y2)];
    if (places.includes(null)) continue;
    const [[a, b], [c, d]] = places.map(([x, y]) => [(x - from.left).toFixed(1), (y - from.top).toFixed(1)]);
    line += `M${a} ${b}L${c} ${d}`;
    ends += `M${a} ${b}h0M${c} ${d}h0`;
  }
  for (const path of $$("path", lines)) path.setAttribute("d", path.classList.contains("ends") ? ends : line);
}

// Another photo, if none of the keypoints of those that are shown were compared.
function goToCompared() {
  if (compared()) return;
  const place = (pane, name) => pane.photos.findIndex((photo) => photo.name === name);
  const own = matches.filter((one) => place(candidate, one.candidate) >= 0);
  const best = own.find((one) => one.query === query.name) || own[0];
  if (!best) return;
  query.go(place(query, best.query));
  candidate.go(place(candidate, best.candidate));
}

function showLines() {
  view.lines = !view.lines;
  $('[data-do="lines"]').setAttribute("aria-pressed", String(view.lines));
  lines.toggleAttribute("hidden", !view.lines);
  if (view.lines) { goToCompared(); drawLines(); }
}

const DO = {
  "zoom-in": () => zoomBy(1.4),
  "zoom-out": () => zoomBy(1 / 1.4),
  whole: () => move(candidate, 1, 0, 0),
  flip: () => { candidate.flipped = !candidate.flipped; candidate.draw(); },
  "flip-query": () => { query.flipped = !query.flipped; query.draw(); },
  turn: () => { candidate.turned = (candidate.turned + 90) % 360; candidate.draw(); },
  "turn-query": () => { query.turned = (query.turned + 90) % 360; query.draw(); },
  contrast: () => { view.contrast = (view.contrast + 1) % CONTRASTS.length; panes.forEach((pane) => pane.draw()); },
  step: () => {
    view.inStep = !view.inStep;
    $('[data-do="step"]').setAttribute("aria-pressed", String(view.inStep));
    if (view.inStep) query.place(candidate.zoom, candidate.x, candidate.y);
  },
  lines: () => { if (lines) showLines(); },
};

function zoomBy(factor) {
  for (const pane of view.inStep ? panes : [candidate]) pane.place(pane.zoom * factor, pane.x * factor, pane.y * factor);
}

function pan(dx, dy) { move(candidate, candidate.zoom, candidate.x + dx * 0.1, candidate.y + dy * 0.1); }

for (const button of $$("[data-do]")) button.addEventListener("click", () => DO[button.dataset.do]());

// Whoever clicks with a pointer goes on by key: Enter shall do what the blue button says, not what was clicked again.
// A click by key has no detail: who moves by keys alone keeps the focus.
document.addEventListener("click", (event) => {
  const clicked = panes.length && event.detail && event.target.closest("[data-do], .film button, .candidates a.card, .meaning summary");
  if (clicked) clicked.blur();
});
// The bar of buttons would cover what was opened.
const meaning = $(".meaning");
if (meaning) meaning.addEventListener("toggle", () => { if (meaning.open) meaning.scrollIntoView({ block: "nearest" }); });
addEventListener("resize", () => panes.forEach((pane) => pane.draw()));

// --- candidates and the form ------------------------------------------------------------------------------------

const cards = $$(".candidates a.card");

function choose(place) {
  const card = cards[place];
  if (!card) return;
  cards.forEach((one) => one.removeAttribute("aria-current"));
  card.setAttribute("aria-current", "true");
  card.scrollIntoView({ block: "nearest", inline: "nearest" });
  $(".head", candidate.figure).textContent = `Candidate ${place + 1}: ${card.dataset.shown}`;
  candidate.show(JSON.parse(card.dataset.photos), 0);
  if (view.lines) goToCompared();
  for (const which of $$(".which")) which.textContent = card.dataset.shown;
  if (form) form.elements.individual.value = card.dataset.id;
  const merge = $("#merge form");
  if (merge) merge.action = `/individuals/${card.dataset.key}/merge`;
}

function current() { return cards.findIndex((card) => card.hasAttribute("aria-current")); }

cards.forEach((card, place) => card.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  choose(place);
}));

function tellScope(name) {
  if (!form) return;
  $(".scope", form).hidden = !alone;
  $(".scope b", form).textContent = name;
  form.elements.subject.value = alone ? name : "";
}

function submit(action) {
  const button = $(`button[name="action"][value="${action}"]`, form);
  if (button && !button.disabled) form.requestSubmit(button);
}

// A decision is sent once, however often the key is pressed.
let sent = false;
document.addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  if (sent) { event.preventDefault(); return; }
  sent = true;
  if (event.target.dataset.joins) {
    for (const field of $$('[name="subject"], [name="also"]:checked', form)) {
      const copy = document.createElement("input");
      copy.type = "hidden"; copy.name = field.name; copy.value = field.value;
      event.target.append(copy);
    }
  }
});
addEventListener("pageshow", () => { sent = false; });

// --- dialogs ----------------------------------------------------------------------------------------------------

function open(id) {
  const dialog = document.getElementById(id);
  if (!dialog || dialog.open) return;
  dialog.showModal();
  const first = $('input:not([type="hidden"]):not([type="checkbox"])', dialog);
  if (first) { first.focus(); first.select(); }
}

for (const button of $$("[data-opens]")) button.addEventListener("click", () => open(button.dataset.opens));
for (const button of $$("[data-closes]")) button.addEventListener("click", () => button.closest("dialog").close());

const letters = $("#letters");
if (letters) {
  letters.checked = localStorage.getItem("letters") !== "no";
  letters.addEventListener("change", () => localStorage.setItem("letters", letters.checked ? "yes" : "no"));
}

// --- keys -------------------------------------------------------------------------------------------------------

function follow(selector) {
  const link = $(selector);
  if (link) link.click();
  return Boolean(link);
}

function press(selector) {
  const found = $(selector);
  if (found) found.requestSubmit();
}

const EVERYWHERE = {
  "/": () => { const box = $(".top input[type=search]"); if (box) { box.focus(); box.select(); } },
  "?": () => open("keys"),
  h: () => { location.href = "/"; },
  q: () => { location.href = "/queue"; },
  z: () => press('form[data-key="z"]'),
  Enter: () => follow("#begin"),
};
const DECIDING = {
  Enter: () => { const button = $("#decide .primary"); if (button) button.click(); },
  c: () => submit("confirm"),
  r: () => submit("reject"),
  u: () => submit("unsure"),
  n: () => open("new"),
  m: () => { if (current() >= 0) open("merge"); },
  j: () => follow("#next"),
  k: () => history.back(),
  g: () => { const boxes = $$('[name="also"]', form || document); const on = boxes.some((box) => !box.checked); boxes.forEach((box) => { box.checked = on; }); },
  p: () => { if (query.photos.length) { alone = !alone; tellScope(query.photos[query.index].name); } },
  ArrowDown: () => choose(Math.min(current() + 1, cards.length - 1)),
  ArrowUp: () => choose(Math.max(current() - 1, 0)),
  ArrowRight: () => candidate.step(1),
  ArrowLeft: () => candidate.step(-1),
  ".": () => query.step(1),
  ",": () => query.step(-1),
  "+": DO["zoom-in"], "=": DO["zoom-in"], "-": DO["zoom-out"], "0": DO.whole,
  f: DO.flip, F: DO["flip-query"], o: DO.turn, O: DO["turn-query"], x: DO.contrast, s: DO.step, l: DO.lines,
};
for (let digit = 1; digit <= 9; digit += 1) DECIDING[String(digit)] = () => choose(digit - 1);
const SHIFTED = { ArrowUp: [0, 1], ArrowDown: [0, -1], ArrowLeft: [1, 0], ArrowRight: [-1, 0] };
const REPEATED = ["+", "=", "-", "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", ".", ","];

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || (letters && !letters.checked)) return;
  const at = document.activeElement;
  if ($("dialog[open]") || (at && at.matches("input:not([type=checkbox]), select, textarea"))) {
    if (event.key === "Escape" && at) at.blur();
    return;
  }
  if (event.key === "Enter" && at && at.matches("a, button, summary")) return;
  if (event.repeat && !REPEATED.includes(event.key)) return;
  if (panes.length && event.shiftKey && SHIFTED[event.key]) { pan(...SHIFTED[event.key]); event.preventDefault(); return; }
  const does = (panes.length && DECIDING[event.key]) || EVERYWHERE[event.key];
  if (does) { event.preventDefault(); does(); }
});

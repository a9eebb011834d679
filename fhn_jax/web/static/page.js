// The page without a framework: it renders what the API answers into the templates of
// index.html. Everything that comes from outside is set as text, never as HTML.
"use strict";

const $ = (id) => document.getElementById(id);
const API = document.body.dataset.api;
const K = Number(document.body.dataset.k) || 12;
const IN_A_ROW = 16; // bits
const MOVE_MS = window.matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 220;

// --- the API ---------------------------------------------------------------------

class Failure extends Error {
  constructor(text, status) {
    super(text);
    this.status = status;
  }
}

// Who only looks is no visitor yet.
let known = document.body.dataset.visitor === "1";
// Looks through the eyes of a person of the data.
let opened = document.body.dataset.opened === "1";

async function enter(user = null) {
  await request("POST", "/visitors", { user });
  known = true;
  opened = user !== null;
}

async function call(method, path, body) {
  if (!known) await enter();
  try {
    return await request(method, path, body);
  } catch (error) {
    if (error.status !== 401) throw error;
    await enter(); // forgotten meanwhile
    return request(method, path, body);
  }
}

async function request(method, path, body) {
  const options = { method, headers: { accept: "application/json" } };
  if (body instanceof FormData) options.body = body;
  else if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(API + path, options);
  } catch {
    throw new Failure("The server cannot be reached.", 0);
  }
  if (answer.status === 204) return null;
  const data = await answer.json().catch(() => ({}));
  if (answer.ok) return data;
  if (answer.status === 429)
    throw new Failure(`That was fast. Try again in ${answer.headers.get("retry-after") || 5} s.`, 429);
  throw new Failure(data.detail || `The server answered ${answer.status}.`, answer.status);
}

// Runs what a click asked for; shows what went wrong, with a way to try again.
async function attempt(action) {
  try {
    const result = await action();
    $("banner").hidden = true;
    return result;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    const retry = $("banner").querySelector("button");
    $("banner").querySelector("span").textContent = error.message;
    retry.hidden = error.status >= 400 && error.status < 500 && error.status !== 429;
    retry.onclick = () => attempt(action);
    $("banner").hidden = false;
    return undefined;
  }
}

let toastTimer;
function say(text) {
  $("toast").textContent = text;
  $("toast").classList.add("shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => $("toast").classList.remove("shown"), 3500);
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

// --- cards -----------------------------------------------------------------------

function makeCard(outfit) {
  const card = $("card").content.firstElementChild.cloneNode(true);
  card.dataset.score = outfit.score;
  card.dataset.feedback = outfit.feedback || "";
  card.setAttribute("aria-label", outfit.items.map((item) => item.title).join(", "));
  card.querySelector(".look").className = `look look-${outfit.items.length}`;
  card.querySelector(".look").prepend(...outfit.items.map(makePiece));
  card.querySelector(".names").replaceChildren(...outfit.items.map(makeName));
  card.querySelector(".badge").hidden = !outfit.explored;
  // What has a photo of one's own in it says nothing of the catalogue's items.
  card.querySelector(".actions").hidden = outfit.items.some(isPhoto);
  return card;
}

function makePiece(item) {
  const piece = $("piece").content.firstElementChild.cloneNode(true);
  piece.dataset.slot = item.slot;
  piece.dataset.category = item.category;
  piece.dataset.item = item.item;
  piece.setAttribute("aria-label", `${item.title}: what to do with this piece`);
  const image = piece.querySelector("img");
  image.alt = item.title;
  image.src = item.thumbnail;
  return piece;
}

function makeName(item) {
  const name = document.createElement("span");
  const title = document.createElement("b");
  title.textContent = item.title;
  name.append(title);
  if (item.attributes.price !== undefined) {
    const price = document.createElement("i");
    price.textContent = amount(item.attributes.price);
    name.append(price);
  }
  return name;
}

const amount = (value) =>
  typeof value === "number" && !Number.isInteger(value) ? value.toFixed(2) : String(value);
const isPhoto = (item) => String(item.item).startsWith("w");
const pieces = (card) => [...card.querySelectorAll(".piece")];
const itemsOf = (card) =>
  Object.fromEntries(pieces(card).map((piece) => [piece.dataset.slot, Number(piece.dataset.item)]));
const keyOf = (card) => pieces(card).map((piece) => `${piece.dataset.slot}/${piece.dataset.item}`).join();
const keyOfOutfit = (outfit) => outfit.items.map((item) => `${item.slot}/${item.item}`).join();

function ghosts(list, count) {
  const some = Array.from({ length: count }, () => $("ghost").content.firstElementChild.cloneNode(true));
  list.replaceChildren(...some);
  list.setAttribute("aria-busy", "true");
}

function show(list, cards) {
  list.replaceChildren(...cards);
  list.removeAttribute("aria-busy");
  oneTabStop(list);
}

// One card of a list is reached by Tab, the others by arrows.
function oneTabStop(list, current) {
  const cards = [...list.querySelectorAll(".card:not(.ghost)")];
  const chosen = cards.includes(current) ? current : cards[0];
  for (const card of cards) card.tabIndex = card === chosen ? 0 : -1;
}

// --- judging ---------------------------------------------------------------------

// Somebody new picks a few of the looks that tell tastes apart best.
const PICKS = 3;
let picking = document.body.dataset.new === "1";
let page = 0;
let counts = { likes: 0, dislikes: 0 };
let bitsBefore = null;
let waiting = Promise.resolve();

function counted(now) {
  counts = { likes: now.likes, dislikes: now.dislikes };
  const judged = counts.likes + counts.dislikes;
  $("undo").disabled = judged === 0;
  if (!judged) picking = !opened;
  $("lead").textContent =
    judged
      ? `Learned from ${counts.likes} liked and ${counts.dislikes} passed.`
      : "Pick three looks you like, and pass on what you would not wear. Each click teaches.";
}

function judge(card, liked) {
  if (!card || card.classList.contains("ghost") || card.dataset.busy) return;
  card.dataset.busy = "1";
  card.dataset.feedback = liked ? "like" : "dislike";
  const list = card.parentElement;
  // One after the other, in the order of the clicks.
  waiting = waiting.then(() =>
    attempt(async () => {
      const now = await call("POST", "/feedback", { items: itemsOf(card), liked });
      counted(now);
      say(liked ? `Liked. ${plural(counts.likes, "like")} so far.` : "Passed. Others take its place.");
      if (startsWithLooks() && (counts.likes >= PICKS || counts.likes + counts.dislikes >= K)) {
        picking = false;
        const had = card.contains(document.activeElement);
        await load();
        window.scrollTo({ top: 0 });
        if (had) $("cards").querySelector(".card")?.focus({ preventScroll: true });
      } else if (list === $("cards")) await replace(card);
      else delete card.dataset.busy;
      tasteIsOld();
    }).then(() => {
      if (card.isConnected && card.dataset.busy) {
        delete card.dataset.busy;
        card.dataset.feedback = "";
      }
    }),
  );
}

const startsWithLooks = () => picking && !conditions();
const wanted = () =>
  startsWithLooks() ? `/start?k=${K}` : `/recommendations?k=${K}&page=${page}${conditions()}`;

// The judged card makes place for the best new outfit, and so do those that nobody sees
// at the moment; what is being looked at stays where it is.
async function replace(card) {
  const list = $("cards");
  page = 0;
  const { outfits } = await call("GET", wanted());
  const cards = [...list.querySelectorAll(".card")];
  const inView = (one) => {
    const box = one.getBoundingClientRect();
    return box.bottom > 0 && box.top < window.innerHeight;
  };
  const kept = cards.filter((one) => one !== card && inView(one));
  const there = new Set(kept.map(keyOf));
  const fresh = outfits.filter((outfit) => !there.has(keyOfOutfit(outfit)));
  const had = card.contains(document.activeElement);
  card.classList.add("leaves");
  await pause(MOVE_MS);
  let next = null;
  for (const old of cards) {
    if (kept.includes(old)) continue;
    const outfit = fresh.shift();
    if (!outfit) {
      old.remove();
      continue;
    }
    const made = makeCard(outfit);
    if (old === card) {
      made.classList.add("arrives");
      next = made;
    }
    old.replaceWith(made);
  }
  $("empty").hidden = list.children.length > 0;
  const focused = next || list.querySelector(".card");
  oneTabStop(list, focused || undefined);
  if (had && focused) focused.focus({ preventScroll: true });
  if (next) {
    next.getBoundingClientRect(); // so that it moves from where it is
    next.classList.remove("arrives");
  }
}

// What pieces must be, as the form of filters has it.
function conditions() {
  const fields = $("filter") ? [...$("filter").elements] : [];
  const given = fields.filter((one) => (one.type === "checkbox" ? one.checked : one.value));
  return given
    .map((one) => `&where=${encodeURIComponent(one.dataset.condition + one.value)}`)
    .join("");
}

async function load({ first = 0 } = {}) {
  const list = $("cards");
  page = first;
  if (!list.children.length) ghosts(list, K);
  list.setAttribute("aria-busy", "true");
  const { outfits, emptied_by: by } = await call("GET", wanted());
  if (!outfits.length && page) return load();
  $("empty-why").hidden = !by;
  $("empty-why").textContent = by ? `No outfit is left by: ${by}.` : "";
  show(list, outfits.map(makeCard));
  $("empty").hidden = outfits.length > 0;
  return undefined;
}

const fresh = () =>
  attempt(async () => {
    const first = startsWithLooks() ? 0 : page + 1;
    picking = false;
    await load({ first });
    window.scrollTo({ top: 0 });
    say("Here are others.");
  });

const undo = () =>
  attempt(async () => {
    const now = await call("POST", "/undo");
    counted(now);
    tasteIsOld();
    await load();
    const what = now.undone && (now.undone.outfit || now.undone.item);
    say(what ? "Taken back." : "There is nothing to take back.");
    if (!now.undone || !now.undone.outfit) return;
    // What was taken back can be judged again: it stands first.
    const key = keyOfOutfit(now.undone.outfit);
    const cards = [...$("cards").children];
    const again = cards.find((card) => keyOf(card) === key) || makeCard({ ...now.undone.outfit, feedback: null });
    if (!again.isConnected && cards.length) cards[cards.length - 1].remove();
    $("cards").prepend(again);
    oneTabStop($("cards"), again);
  });

// --- a piece ---------------------------------------------------------------------

let chosen = null;

function openMenu({ category, item, title, thumbnail }) {
  const photo = isPhoto({ item });
  chosen = { category, item: photo ? item : Number(item), title };
  $("menu-title").textContent = title;
  $("menu-image").src = thumbnail;
  $("menu-about").replaceChildren();
  $("menu-link").hidden = true;
  for (const button of $("menu").querySelectorAll("[data-do]"))
    button.hidden = photo && button.dataset.do !== "complete";
  $("menu").showModal();
  if (!photo) tellAbout(chosen);
}

const tellAbout = (asked) =>
  attempt(async () => {
    const { id, attributes } = await call("GET", `/items/${encodeURIComponent(asked.category)}/${asked.item}`);
    if (asked !== chosen) return; // another piece is shown by now
    const { url, ...others } = attributes;
    const facts = Object.entries(id ? { ...others, id } : others);
    $("menu-about").replaceChildren(...facts.map(makeFact));
    const isAddress = /^https?:\/\//i.test(url);
    $("menu-link").hidden = !isAddress;
    if (isAddress) $("menu-link").href = url;
  });

function makeFact([name, value]) {
  const fact = document.createElement("div");
  const term = document.createElement("dt");
  term.textContent = name.replaceAll("_", " ");
  const what = document.createElement("dd");
  what.textContent = typeof value === "boolean" ? (value ? "yes" : "no") : amount(value);
  fact.append(term, what);
  return fact;
}

const PIECE = {
  complete: () => complete({ fixed: { [chosen.category]: chosen.item } }, `Looks with ${chosen.title}`),
  similar: () =>
    attempt(async () => {
      const { items } = await call("GET", `/items/${encodeURIComponent(chosen.category)}/${chosen.item}/similar?k=12`);
      openPanel(`More like ${chosen.title}`, "Choose one to see what to do with it.");
      $("panel-things").replaceChildren(
        ...items.map((item) => makeThing(item, () => openMenu(item))),
      );
    }),
  wear: () =>
    attempt(async () => {
      await call("PUT", `/wardrobe/${encodeURIComponent(chosen.category)}/${chosen.item}`);
      say(`${chosen.title} is in your wardrobe.`);
      if (!$("wardrobe").hidden) await loadWardrobe();
    }),
  like: () => judgePiece(true),
  dislike: () => judgePiece(false),
};

const judgePiece = (liked) =>
  attempt(async () => {
    const { category, item, title } = chosen;
    counted(await call("POST", "/feedback", { item: { category, item }, liked }));
    tasteIsOld();
    say(liked ? `Liked: ${title}.` : `Less like ${title}.`);
    if (!$("outfits").hidden) await load();
  });

function openPanel(title, text) {
  $("panel-title").textContent = title;
  $("panel-says").textContent = text;
  $("panel-cards").replaceChildren();
  $("panel-things").replaceChildren();
  if (!$("panel").open) $("panel").showModal();
  $("panel").scrollTop = 0;
  $("panel-title").focus();
}

function complete(request, title) {
  return attempt(async () => {
    openPanel(title, "Looking through all combinations …");
    ghosts($("panel-cards"), 4);
    let found;
    try {
      found = await call("POST", "/compose", { k: 8, at_most: { item: 3 }, ...request });
    } catch (error) {
      $("panel").close();
      throw error;
    }
    show($("panel-cards"), found.outfits.map(makeCard));
    $("panel-says").textContent = found.outfits.length
      ? "The best of all combinations for you."
      : "There are no such outfits.";
  });
}

function makeThing(item, action) {
  const thing = $("thing").content.firstElementChild.cloneNode(true);
  const image = thing.querySelector("img");
  image.src = item.thumbnail;
  thing.querySelector("span").textContent = item.title;
  thing.querySelector("button").onclick = action;
  return thing;
}

// --- why -------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";

function bar(share, largest) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "-50 0 100 10");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const length = largest ? (Math.abs(share) / largest) * 50 : 0;
  for (const [x, width, name] of [
    [share < 0 ? -length : 0, length, share < 0 ? "minus" : "plus"],
    [-0.4, 0.8, "axis"],
  ]) {
    const rect = document.createElementNS(SVG, "rect");
    rect.setAttribute("x", x);
    rect.setAttribute("width", width);
    rect.setAttribute("height", 10);
    rect.setAttribute("class", name);
    svg.append(rect);
  }
  return svg;
}

const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);

const why = (card) =>
  attempt(async () => {
    const reasons = await call("POST", "/explain", { items: itemsOf(card) });
    const rows = [
      ...reasons.items.map((item) => [item.title, item.share, ""]),
      ...reasons.pairs.map((pair) => [`${pair.a} with ${pair.b}`, pair.share, "pair"]),
    ];
    const largest = Math.max(...rows.map(([, share]) => Math.abs(share)));
    $("why-says").textContent = reasons.sentence;
    $("why-rows").replaceChildren(
      ...rows.map(([title, share, kind]) => {
        const row = document.createElement("tr");
        row.className = kind;
        row.dataset.share = share;
        const head = document.createElement("th");
        head.scope = "row";
        head.textContent = title;
        const picture = document.createElement("td");
        picture.append(bar(share, largest));
        const number = document.createElement("td");
        number.textContent = signed(share);
        row.append(head, picture, number);
        return row;
      }),
    );
    $("why-score").textContent = signed(reasons.score);
    $("why").showModal();
  });

// --- wardrobe --------------------------------------------------------------------

const browse = { offset: 0, token: 0 };
let worn = new Set();
const thingKey = (item) => `${item.category}/${item.item}`;

async function loadWardrobe() {
  const { items, photos } = await call("GET", "/wardrobe");
  worn = new Set(items.map(thingKey));
  $("upload").hidden = !photos;
  $("worn").replaceChildren(
    ...items.map((item) => {
      const thing = makeThing(item, () => toggle(item, thing));
      const button = thing.querySelector("button");
      button.setAttribute("aria-pressed", "true");
      button.title = "Take it out";
      return thing;
    }),
  );
  $("worn-empty").hidden = items.length > 0;
  $("compose-wardrobe").disabled = items.length === 0;
  for (const thing of $("things").children)
    thing.firstElementChild.setAttribute("aria-pressed", String(worn.has(thing.dataset.key)));
}

const toggle = (item) =>
  attempt(async () => {
    const place = isPhoto(item) ? ["photos", item.item.slice(1)] : [item.category, item.item];
    const path = `/wardrobe/${place.map(encodeURIComponent).join("/")}`;
    const takes = worn.has(thingKey(item));
    await call(takes ? "DELETE" : "PUT", path);
    say(takes ? `${item.title} is out.` : `${item.title} is in your wardrobe.`);
    await loadWardrobe();
  });

async function loadThings({ more = false } = {}) {
  const form = new FormData($("browse"));
  const token = ++browse.token;
  browse.offset = more ? browse.offset : 0;
  const query = new URLSearchParams({
    category: form.get("category"),
    q: form.get("q"),
    offset: browse.offset,
    limit: 48,
  });
  const { items, total } = await call("GET", `/items?${query}`);
  if (token !== browse.token) return; // a later question has been asked
  const things = items.map((item) => {
    const thing = makeThing(item, () => toggle(item));
    thing.dataset.key = thingKey(item);
    thing.firstElementChild.setAttribute("aria-pressed", String(worn.has(thingKey(item))));
    return thing;
  });
  if (more) $("things").append(...things);
  else $("things").replaceChildren(...things);
  browse.offset += items.length;
  $("more").hidden = browse.offset >= total;
  $("things-empty").hidden = total > 0;
}

// --- taste -----------------------------------------------------------------------

function drawCode(bits) {
  const rows = Math.ceil(bits.length / IN_A_ROW);
  $("code").setAttribute("viewBox", `-0.1 -0.1 ${IN_A_ROW + 0.1} ${rows + 0.1}`);
  const changed = (place) => bitsBefore && bitsBefore[place] !== bits[place];
  $("code").replaceChildren(
    ...bits.map((bit, place) => {
      const square = document.createElementNS(SVG, "rect");
      square.setAttribute("x", place % IN_A_ROW);
      square.setAttribute("y", Math.floor(place / IN_A_ROW));
      square.setAttribute("width", 0.86);
      square.setAttribute("height", 0.86);
      square.setAttribute("rx", 0.18);
      square.setAttribute("class", (bit ? "on" : "off") + (changed(place) ? " new" : ""));
      return square;
    }),
  );
}

function makeLook(one) {
  const look = document.createElement("li");
  const items = one.outfit ? one.outfit.items : [one.item];
  for (const item of items) {
    const image = document.createElement("img");
    image.src = item.thumbnail;
    image.alt = item.title;
    image.width = image.height = 320;
    image.loading = "lazy";
    look.append(image);
  }
  return look;
}

let shownBits = null;

async function loadTaste() {
  const [me, { feedback }] = await Promise.all([
    call("GET", "/visitors/me"),
    call("GET", "/visitors/me/feedback?limit=60"),
  ]);
  counted(me);
  if (shownBits && shownBits.join() !== me.bits.join()) bitsBefore = shownBits;
  shownBits = me.bits;
  drawCode(me.bits);
  const start = me.user === null ? "" : `You started as person ${me.user_id ?? me.user} of the data. `;
  $("taste-says").textContent = `${start}${plural(me.likes, "like")}, ${me.dislikes} passed.`;
  $("liked").replaceChildren(...feedback.filter((one) => one.liked).map(makeLook));
  $("disliked").replaceChildren(...feedback.filter((one) => !one.liked).map(makeLook));
}

// The code is fetched after each click, so that its picture can say what that changed.
function tasteIsOld() {
  if (!$("taste").hidden) attempt(loadTaste);
  else if (shownBits)
    call("GET", "/visitors/me").then(
      (me) => {
        bitsBefore = shownBits;
        shownBits = me.bits;
      },
      () => {}, // the picture will say less
    );
}

// --- tabs, keys, clicks ----------------------------------------------------------

const tabs = [...document.querySelectorAll('[role="tab"]')];
const LOAD = {
  outfits: null,
  wardrobe: () => Promise.all([loadWardrobe(), loadThings()]),
  taste: loadTaste,
};

function openTab(name) {
  for (const tab of tabs) {
    const is = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", String(is));
    tab.tabIndex = is ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = !is;
  }
  history.replaceState(null, "", name === "outfits" ? location.pathname : `#${name}`);
  window.scrollTo({ top: 0 });
  if (LOAD[name]) attempt(LOAD[name]);
}

for (const tab of tabs) {
  tab.onclick = () => openTab(tab.getAttribute("aria-controls"));
  tab.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    next.focus();
    next.click();
  };
}

function onCard(event) {
  const button = event.target.closest("button");
  const card = event.target.closest(".card");
  if (!button || !card) return;
  if (button.classList.contains("piece")) {
    const { alt: title, src: thumbnail } = button.querySelector("img");
    openMenu({ ...button.dataset, title, thumbnail });
  } else if (button.dataset.act === "why") why(card);
  else if (button.dataset.act) judge(card, button.dataset.act === "like");
}
for (const list of [$("cards"), $("panel-cards")]) list.onclick = onCard;

$("menu").onclick = (event) => {
  const action = event.target.dataset.do;
  if (!action) return;
  $("menu").close();
  PIECE[action]();
};
for (const dialog of document.querySelectorAll("dialog"))
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside it
  });

// The card in the direction of an arrow, as they lie on the page.
function neighbour(card, key) {
  const cards = [...card.parentElement.querySelectorAll(".card")];
  const place = cards.indexOf(card);
  if (key === "ArrowRight") return cards[place + 1];
  if (key === "ArrowLeft") return cards[place - 1];
  const here = card.getBoundingClientRect();
  const column = cards.filter((one) => Math.abs(one.getBoundingClientRect().left - here.left) < 2);
  return column[column.indexOf(card) + (key === "ArrowDown" ? 1 : -1)];
}

const judgeable = (card) => card && card.querySelector(".actions:not([hidden])");

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea")) return;
  const card = event.target.closest(".card");
  const dialog = document.querySelector("dialog[open]");
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key.startsWith("Arrow")) {
    if (event.target.closest('[role="tab"]')) return;
    const list = dialog ? $("panel-cards") : $("cards");
    const next = card ? neighbour(card, key) : list.querySelector(".card");
    if (!next || (!card && ($("outfits").hidden || event.target !== document.body))) return;
    event.preventDefault();
    oneTabStop(next.parentElement, next);
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  } else if (key === "l" && judgeable(card)) judge(card, true);
  else if (key === "d" && judgeable(card)) judge(card, false);
  else if (key === "w" && judgeable(card)) why(card);
  else if (key === "u" && !dialog && !$("undo").disabled) undo();
  else if (key === "r" && !dialog && !$("outfits").hidden) fresh();
  else if (key === "?" && !dialog) $("keys").showModal();
});

$("undo").onclick = undo;
$("help").onclick = () => $("keys").showModal();
$("fresh").onclick = fresh;
$("reset").onclick = () =>
  attempt(async () => {
    counted(await call("POST", "/reset"));
    await Promise.all([loadTaste(), load()]);
    say("Started over.");
  });
$("compose-wardrobe").onclick = () => complete({ wardrobe: true, at_most: {}, include_seen: true, k: 12 }, "From your wardrobe");
$("more").onclick = () => attempt(() => loadThings({ more: true }));
if ($("filter")) {
  $("filter").onsubmit = (event) => event.preventDefault();
  $("filter").onchange = () => attempt(load);
}
$("browse").onsubmit = (event) => event.preventDefault();
let typing;
$("browse").oninput = () => {
  clearTimeout(typing);
  typing = setTimeout(() => attempt(loadThings), 150);
};
$("known").onsubmit = (event) => {
  event.preventDefault();
  const field = $("known").elements.user;
  // Of a shop, the people have ids.
  const user = field.type === "number" ? Number(field.value) : field.value;
  attempt(async () => {
    await enter(user);
    picking = false;
    bitsBefore = shownBits = null;
    await loadTaste();
    await load();
    $("lead").textContent = `What person ${user} of the data would be shown.`;
    openTab("outfits");
  });
};
$("upload").onsubmit = (event) => {
  event.preventDefault();
  const button = $("upload").querySelector("button");
  button.disabled = true;
  $("upload-says").textContent = "Looking at it …";
  attempt(async () => {
    const item = await call("POST", "/wardrobe/photos", new FormData($("upload")));
    $("upload").reset();
    say(`${item.title} is in your wardrobe.`);
    await loadWardrobe();
  }).finally(() => {
    button.disabled = false;
    $("upload-says").textContent = "";
  });
};

oneTabStop($("cards"));
const start = location.hash.slice(1);
if (tabs.some((tab) => tab.id === `tab-${start}`)) openTab(start);
document.body.dataset.ready = "1";

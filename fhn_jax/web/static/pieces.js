// One piece: what it is, looks around it, why it is shown; and the wardrobe.
"use strict";

let chosen = null;

function openMenu({ category, item, title, thumbnail }) {
  const photo = isPhoto({ item });
  chosen = { category, item: photo ? item : Number(item), title };
  $("menu-title").textContent = title;
  $("menu-image").src = thumbnail;
  for (const button of $("menu").querySelectorAll("[data-do]"))
    button.hidden = photo && button.dataset.do !== "complete";
  const asked = chosen;
  (photo ? Promise.resolve({}) : attempt(() => factsOf(asked))).then((facts) => {
    if (asked !== chosen) return; // another piece has been asked for
    describe(facts ?? {});
    openDialog($("menu"));
  });
}

async function factsOf({ category, item }) {
  const { id, attributes } = await request("GET", `/items/${encodeURIComponent(category)}/${item}`);
  return id ? { ...attributes, id } : attributes;
}

function describe({ brand, price, currency, url, ...others }) {
  $("menu-brand").textContent = brand ?? "";
  $("menu-price").textContent = priceOf({ price, currency });
  $("menu-about").replaceChildren(...Object.entries(others).map(makeFact));
  const isAddress = /^https?:\/\//i.test(url);
  $("menu-link").hidden = !isAddress;
  if (isAddress) $("menu-link").href = url;
  else $("menu-link").removeAttribute("href");
}

function makeFact([name, value]) {
  const fact = document.createElement("div");
  const said = typeof value === "boolean" ? (value ? "yes" : "no") : amount(value);
  fact.append(make("dt", name.replaceAll("_", " ")), make("dd", said));
  return fact;
}

const PIECE = {
  complete: () => complete({ fixed: { [chosen.category]: chosen.item } }, `Looks with ${chosen.title}`),
  similar: () =>
    attempt(async () => {
      const { items } = await request("GET", `/items/${encodeURIComponent(chosen.category)}/${chosen.item}/similar?k=12`);
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
  openDialog($("panel"));
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
    openDialog($("why"));
  });

// --- wardrobe --------------------------------------------------------------------

const browse = { offset: 0, token: 0 };
let worn = new Set();
const thingKey = (item) => `${item.category}/${item.item}`;

async function loadWardrobe() {
  const { items, photos } = await call("GET", "/wardrobe");
  worn = new Set(items.map(thingKey));
  $("upload").hidden = !photos;
  const focused = [...$("worn").children].findIndex((one) => one.contains(document.activeElement));
  const buttons = items.map((item) => {
    const button = makeThing(item, () => toggle(item)).firstElementChild;
    button.setAttribute("aria-pressed", "true");
    button.title = "Take it out";
    return button;
  });
  $("worn").replaceChildren(...buttons.map((button) => button.parentElement));
  $("worn-empty").hidden = items.length > 0;
  // The focus goes to what takes the place of a piece that is out.
  if (focused >= 0) (buttons[focused] ?? buttons.at(-1) ?? $("worn-empty")).focus();
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
  const { items, total } = await request("GET", `/items?${query}`);
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

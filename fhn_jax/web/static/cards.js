// Outfits and pieces as the templates of index.html show them.
"use strict";

function makeCard(outfit) {
  const card = $("card").content.firstElementChild.cloneNode(true);
  card.dataset.score = outfit.score;
  card.dataset.feedback = outfit.feedback || "";
  card.setAttribute("aria-label", outfit.items.map((item) => item.title).join(", "));
  card.querySelector(".look").className = `look look-${outfit.items.length}`;
  card.querySelector(".look").replaceChildren(...outfit.items.map(makePiece));
  card.querySelector(".note").hidden = !outfit.explored;
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
  piece.querySelector(".name").replaceChildren(...makeName(item));
  return piece;
}

function makeThing(item, action) {
  const thing = $("thing").content.firstElementChild.cloneNode(true);
  thing.querySelector("img").src = item.thumbnail;
  thing.querySelector(".name").replaceChildren(...makeName(item));
  thing.querySelector("button").onclick = action;
  return thing;
}

function make(tag, text, name = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = name;
  return made;
}

function makeName({ title, attributes }) {
  const price = priceOf(attributes);
  return price ? [make("b", title), make("i", price)] : [make("b", title)];
}

// As the shop says it: with a currency only if the shop names one.
const priceOf = ({ price, currency }) =>
  price === undefined ? "" : [amount(price), currency].filter(Boolean).join(" ");

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
  const had = list.contains(document.activeElement);
  list.replaceChildren(...cards);
  list.removeAttribute("aria-busy");
  oneTabStop(list);
  if (had) cards[0]?.focus({ preventScroll: true });
}

// One card of a list is reached by Tab, the others by arrows.
function oneTabStop(list, current) {
  const cards = [...list.querySelectorAll(".card:not(.ghost)")];
  const chosen = cards.includes(current) ? current : cards[0];
  for (const card of cards) card.tabIndex = card === chosen ? 0 : -1;
}

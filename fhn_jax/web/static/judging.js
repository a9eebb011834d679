// Likes and dislikes, and the outfits that are shown next.
"use strict";

// Somebody new picks a few of the looks that tell tastes apart best.
const PICKS = 3;
const ALL_JUDGED = $("empty-why").textContent;
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
        await load();
        window.scrollTo({ top: 0 });
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

// What outfits must be, as the form of filters has it: of one category, they have a piece
// of it, and the other conditions are on that piece.
function conditions() {
  if (!$("filter")) return "";
  const of = $("filter").elements.of.value;
  const found = [...$("filter").querySelectorAll("[data-name]")].flatMap(conditionsOf);
  return [
    ...(of ? [`&category=${encodeURIComponent(of)}`] : []),
    ...found.map((one) => `&where=${encodeURIComponent(of ? `${of}:${one}` : one)}`),
  ].join("");
}

function conditionsOf(field) {
  const { name, kind } = field.dataset;
  const inputs = [...field.querySelectorAll("input")];
  if (kind === "number")
    return inputs.filter((one) => one.value).map((one) => name + one.dataset.operator + one.value);
  const values = inputs.filter((one) => one.checked).map((one) => one.value);
  const quoted = values.map((value) => `"${value.replaceAll('"', '""')}"`);
  if (quoted.length < 2) return quoted.map((value) => `${name}=${value}`);
  return `${name} in {${quoted.join(",")}}`;
}

// A condition of the form as people say it.
const OPERATORS = { "<=": " up to ", ">=": " from ", "=": " ", " in {": " " };
const inWords = (condition) =>
  condition
    .replace(/<=|>=|=| in \{/, (operator) => OPERATORS[operator])
    .replace(/"\}$/, '"')
    .replaceAll(/"((?:[^"]|"")*)"/g, (_, text) => text.replaceAll('""', '"'));

// Says at each attribute how much is chosen of it.
function countChosen() {
  for (const count of $("filter").querySelectorAll(".count")) {
    const inputs = [...count.closest(".facet").querySelectorAll("input")];
    const chosen = inputs.filter((one) => (one.type === "checkbox" ? one.checked : one.value));
    count.textContent = chosen.length ? ` (${chosen.length})` : "";
  }
  const of = $("filter").querySelector("[name=of]:checked");
  $("of").textContent = of.nextElementSibling.textContent;
  $("clear").hidden = !conditions();
}

let loads = 0;

async function load({ first = 0 } = {}) {
  const list = $("cards");
  const number = ++loads;
  page = first;
  if (!list.children.length) ghosts(list, K);
  list.setAttribute("aria-busy", "true");
  const { outfits, emptied_by: by } = await call("GET", wanted());
  if (number !== loads) return undefined; // another question has been asked
  if (!outfits.length && page) return load();
  if (by) {
    $("empty-title").textContent = "Nothing fits";
    $("empty-why").textContent = `No outfit is left by: ${inWords(by)}.`;
  } else {
    $("empty-title").textContent = "That was all of them";
    $("empty-why").textContent = ALL_JUDGED;
  }
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
    say(now.undone ? "Taken back." : "There is nothing to take back.");
    if (!now.undone || !now.undone.outfit) return;
    // What was taken back can be judged again: it stands first.
    const key = keyOfOutfit(now.undone.outfit);
    const cards = [...$("cards").children];
    const had = $("cards").contains(document.activeElement);
    const again = cards.find((card) => keyOf(card) === key) || makeCard({ ...now.undone.outfit, feedback: null });
    if (!again.isConnected && cards.length) cards[cards.length - 1].remove();
    $("cards").prepend(again);
    oneTabStop($("cards"), again);
    if (had) again.focus();
  });

// Tabs, keys and clicks; the last of the scripts.
"use strict";

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
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside it
  });
  dialog.addEventListener("close", placeMessages);
}

// The card in the direction of an arrow, as they lie on the page.
function neighbour(card, key) {
  const cards = [...card.parentElement.querySelectorAll(".card")];
  const place = cards.indexOf(card);
  if (key === "ArrowRight") return cards[place + 1];
  if (key === "ArrowLeft") return cards[place - 1];
  // The nearest of the row above or below.
  const way = key === "ArrowDown" ? 1 : -1;
  const here = card.getBoundingClientRect();
  const far = (one) => {
    const box = one.getBoundingClientRect();
    const down = way * (box.top - here.top);
    return down > 2 ? 1e4 * down + Math.abs(box.left - here.left) : Infinity;
  };
  const nearest = cards.reduce((best, one) => (far(one) < far(best) ? one : best), card);
  return nearest === card ? undefined : nearest;
}

const judgeable = (card) => card && card.querySelector(".actions:not([hidden])");

// Letters are keys of the outfit that has the focus, so that nothing is judged or taken
// back by what somebody says or types elsewhere; a key that is held down counts once.
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
  } else if (card && !event.repeat) {
    if (key === "l" && judgeable(card)) judge(card, true);
    else if (key === "d" && judgeable(card)) judge(card, false);
    else if (key === "w" && judgeable(card)) why(card);
    else if (key === "u" && !dialog && !$("undo").disabled) undo();
    else if (key === "r" && !dialog) fresh();
    else if (key === "?" && !dialog) openDialog($("keys"));
  }
});

$("undo").onclick = undo;
$("help").onclick = () => openDialog($("keys"));
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
  const filtered = () => {
    countChosen();
    attempt(load);
  };
  $("filter").onchange = filtered;
  $("filter").onreset = () => setTimeout(filtered); // when it has been emptied
  // A list of values is closed as a menu is.
  const closeFacets = (but) => {
    for (const facet of $("filter").querySelectorAll(".facet[open]"))
      if (facet !== but) facet.open = false;
  };
  for (const kind of ["click", "focusin"])
    document.addEventListener(kind, (event) => closeFacets(event.target.closest(".facet")));
  $("filter").onkeydown = (event) => {
    if (event.key !== "Escape") return;
    const facet = event.target.closest(".facet[open]");
    closeFacets();
    facet?.querySelector("summary").focus();
  };
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
    await entering; // somebody else
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

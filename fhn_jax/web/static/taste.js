// What was learned, in words, in looks, and as bits.
"use strict";

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
  look.append(
    ...items.map((item) => {
      const tile = make("span", "", "tile");
      const image = document.createElement("img");
      image.src = item.thumbnail;
      image.alt = item.title;
      image.width = 300;
      image.height = 400;
      image.loading = "lazy";
      tile.append(image);
      return tile;
    }),
  );
  return look;
}

// Words of a kind, the most liked first; those with a colour show it.
function makeWords({ name, liked, passed }) {
  const group = document.createElement("section");
  group.append(make("h2", name));
  for (const [words, kind] of [
    [liked, "yes"],
    [passed, "no"],
  ]) {
    const list = make("ul", "", kind);
    list.setAttribute("aria-label", kind === "yes" ? "You like" : "Rather not");
    list.append(...words.map(makeWord));
    if (words.length) group.append(list);
  }
  return group;
}

function makeWord({ text, liked, passed, colour }) {
  const word = document.createElement("li");
  if (colour) word.append(makeSwatch(colour));
  word.append(make("span", text));
  word.title = `${liked} liked, ${passed} passed`;
  return word;
}

function makeSwatch(colour) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "swatch");
  svg.setAttribute("viewBox", "0 0 12 12");
  svg.setAttribute("aria-hidden", "true");
  const circle = document.createElementNS(SVG, "circle");
  for (const [name, value] of Object.entries({ cx: 6, cy: 6, r: 5.5, fill: colour }))
    circle.setAttribute(name, value);
  svg.append(circle);
  return svg;
}

const inOrder = new Intl.ListFormat("en", { type: "conjunction" });

function sayTaste(me, groups) {
  const start = me.user === null ? "" : `You started as person ${me.user_id ?? me.user} of the data. `;
  const best = groups.length ? groups[0].liked.slice(0, 3).map(({ text }) => text) : [];
  const most = best.length ? `You like ${inOrder.format(best)} most. ` : "";
  $("taste-says").textContent = `${start}${most}${plural(me.likes, "like")}, ${me.dislikes} passed.`;
}

let shownBits = null;

async function loadTaste() {
  await waiting; // what was clicked before counts
  const [me, { feedback }, { groups }] = await Promise.all([
    call("GET", "/visitors/me"),
    call("GET", "/visitors/me/feedback?limit=60"),
    call("GET", "/visitors/me/taste"),
  ]);
  counted(me);
  if (shownBits && shownBits.join() !== me.bits.join()) bitsBefore = shownBits;
  shownBits = me.bits;
  drawCode(me.bits);
  sayTaste(me, groups);
  $("words").replaceChildren(...groups.map(makeWords));
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

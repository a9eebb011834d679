// The page without a framework: it renders what the API answers into the templates of
// index.html. Everything that comes from outside is set as text, never as HTML.
"use strict";

const $ = (id) => document.getElementById(id);
const API = document.body.dataset.api;
const K = Number(document.body.dataset.k) || 12;
const IN_A_ROW = 16; // bits
const MOVE_MS = window.matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 220;

class Failure extends Error {
  constructor(text, status) {
    super(text);
    this.status = status;
  }
}

// How many visitors this page has been: who only looks is none yet.
let visitor = Number(document.body.dataset.visitor);
let entering = null;
// Looks through the eyes of a person of the data.
let opened = document.body.dataset.opened === "1";

// What is asked at the same time is asked by one visitor: of several, the browser would
// keep the last one's cookie, and the clicks of the others would be lost.
function enter(user = null) {
  entering ??= request("POST", "/visitors", { user })
    .then(() => {
      visitor += 1;
      opened = user !== null;
    })
    .finally(() => {
      entering = null;
    });
  return entering;
}

async function call(method, path, body) {
  if (!visitor) await enter();
  const asked = visitor;
  try {
    return await request(method, path, body);
  } catch (error) {
    if (error.status !== 401) throw error;
    if (visitor === asked) await enter(); // forgotten meanwhile
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

// All under a modal dialog can be neither clicked nor heard: what the page says is said in
// the one on top, the last of the document, see index.html.
function placeMessages() {
  const top = [document.body, ...document.querySelectorAll("dialog[open]")].at(-1);
  top.append($("toast"), $("banner"));
}

function openDialog(dialog) {
  if (!dialog.open) dialog.showModal();
  placeMessages();
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

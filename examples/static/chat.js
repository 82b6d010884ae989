/* The page: what is known, how it is drawn, what the server says, what the person does. */

import { Link } from "./link.js";

const $ = (id) => document.getElementById(id);
const scheme = location.protocol === "https:" ? "wss" : "ws";
const link = new Link(`${scheme}://${location.host}/ws`);
const memory = { get: (key) => JSON.parse(sessionStorage.getItem(key)), set: (key, value) => sessionStorage.setItem(key, JSON.stringify(value)) };

/* What is known. A conversation is "#room" or "@person". */
const me = { name: null, key: memory.get("key") ?? crypto.getRandomValues(new Uint32Array(4)).join("-") };
const joined = new Set(memory.get("rooms") ?? ["lobby"]);
const conversations = new Map();
let roster = { people: [], rooms: [] };
let current = "#lobby";
let typing = new Map();

function conversation(id) {
  if (!conversations.has(id)) conversations.set(id, { messages: new Map(), unread: 0 });
  return conversations.get(id);
}

function remember() {
  memory.set("key", me.key);
  memory.set("name", me.name);
  memory.set("rooms", [...joined]);
}

/* How it is drawn. Text only ever becomes text: nothing somebody wrote is read as HTML. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function hue(name) {
  let hash = 2166136261;
  for (const letter of name) hash = Math.imul(hash ^ letter.codePointAt(0), 16777619) >>> 0;
  return Math.round((hash % 997) * 137.508) % 360;
}

function face(name, presence = null) {
  const letters = name.split(/[\s.'-]+/).filter(Boolean).map((word) => [...word][0]).slice(0, 2).join("").toUpperCase();
  const made = element("span", { class: "face", "aria-hidden": "true", "data-presence": presence }, letters);
  made.style.setProperty("--hue", hue(name));
  return made;
}

function presence(name) {
  const person = roster.people.find((one) => one.name === name);
  return person ? (person.away ? "away" : "online") : "gone";
}

const spoken = { online: "online", away: "away", gone: "offline" };

function row({ id, label, mark, unread = 0, note = null, extra = "", hint = null }) {
  const attributes = { type: "button", class: `row ${extra} ${unread ? "has-unread" : ""}`, "aria-current": id === current, onclick: () => show(id), title: hint };
  const badge = unread ? element("span", { class: "unread" }, String(unread), element("span", { class: "hidden" }, " unread")) : null;
  return element("li", {}, element("button", attributes, mark, element("span", { class: "name" }, label), badge, note));
}

function drawRooms() {
  const known = new Map(roster.rooms.map((room) => [room.name, room.members]));
  for (const room of joined) if (!known.has(room)) known.set(room, []);
  $("rooms").replaceChildren(...[...known].map(([name, members]) => row({
    id: `#${name}`, label: name, unread: conversation(`#${name}`).unread, extra: joined.has(name) ? "" : "outside",
    mark: element("span", { class: "hash", "aria-hidden": "true" }, joined.has(name) ? "#" : "+"),
    note: element("span", { class: "count" }, String(members.length), element("span", { class: "hidden" }, " people")),
    hint: joined.has(name) ? null : `Join ${name}`,
  })));
  const privates = [...conversations.keys()].filter((id) => id.startsWith("@"));
  $("privates").replaceChildren(...privates.map((id) => row({
    id, label: id.slice(1), unread: conversation(id).unread, mark: face(id.slice(1), presence(id.slice(1))),
    extra: presence(id.slice(1)) === "gone" ? "gone" : "", note: element("span", { class: "hidden" }, spoken[presence(id.slice(1))]),
  })));
  $("privates-hint").hidden = privates.length > 0;
  drawUnread();
}

function drawUnread() {
  const total = [...conversations.values()].reduce((sum, one) => sum + one.unread, 0);
  document.title = (total ? `(${total}) ` : "") + "wsstab chat";
  $("rooms-unread").hidden = total === 0;
}

function membersOf(id) {
  if (id.startsWith("@")) return roster.people.map((one) => one.name).filter((name) => name === id.slice(1) || name === me.name);
  return roster.rooms.find((room) => `#${room.name}` === id)?.members ?? [];
}

function drawPeople() {
  const here = new Set(membersOf(current));
  const person = ({ name }) => row({
    id: name === me.name ? null : `@${name}`, label: name, mark: face(name, presence(name)),
    note: element("span", { class: "count" }, name === me.name ? "you" : presence(name) === "away" ? "away" : "", element("span", { class: "hidden" }, ` ${spoken[presence(name)]}`)),
    hint: name === me.name ? null : `Write to ${name} alone`,
  });
  const inside = roster.people.filter((one) => here.has(one.name));
  const outside = roster.people.filter((one) => !here.has(one.name));
  $("here").replaceChildren(...inside.map(person));
  $("elsewhere").replaceChildren(...outside.map(person));
  $("here-title").textContent = `${current.startsWith("#") ? "In this room" : "In this conversation"} · ${inside.length}`;
  $("elsewhere-title").textContent = `Elsewhere · ${outside.length}`;
  $("elsewhere-title").hidden = outside.length === 0;
}

function drawTitle() {
  const name = current.slice(1);
  const people = membersOf(current).length;
  $("title").textContent = current.startsWith("#") ? `# ${name}` : name;
  $("subtitle").textContent = current.startsWith("#") ? `${people} ${people === 1 ? "person" : "people"} here` : `Only you two · ${spoken[presence(name)]}`;
  $("leave").hidden = !current.startsWith("#") || name === "lobby";
  $("text").placeholder = `Message ${current.startsWith("#") ? current : name}`;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

function note(message) {
  if (message.pending) return link.state === "open" ? "sending…" : "waits for the connection";
  return message.delivered === false ? `not delivered: ${message.to.slice(1)} is offline` : null;
}

function bubble(message, before) {
  const mine = message.sender === me.name;
  const first = before?.sender !== message.sender || message.at - before.at > 300;
  const time = element("time", { datetime: new Date(message.at * 1000).toISOString() }, clock.format(message.at * 1000));
  const who = first ? element("div", { class: "who" }, mine ? element("span", { class: "hidden" }, "You") : message.sender, time) : null;
  const remark = note(message);
  const states = `${mine ? "mine" : ""} ${first ? "first" : ""} ${message.pending ? "pending" : ""} ${message.delivered === false ? "failed" : ""}`;
  return element("div", { class: `message ${states}`, "data-id": message.id },
    mine ? null : first ? face(message.sender) : element("span"), who,
    element("div", { class: "what" }, message.text), remark ? element("div", { class: "note" }, remark) : null);
}

function drawLog() {
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  const messages = [...conversation(current).messages.values()].sort((a, b) => a.at - b.at);
  const drawn = messages.map((message, index) => bubble(message, messages[index - 1]));
  const nothing = current.startsWith("#") ? "Nothing has been said here yet. Say the first word." : "Only the two of you see what is written here. It is kept nowhere.";
  log.replaceChildren(...(drawn.length ? drawn : [element("p", { class: "empty" }, nothing)]));
  if (atEnd || log.dataset.showing !== current) log.scrollTop = log.scrollHeight;
  log.dataset.showing = current;
}

function drawTyping() {
  const names = [...typing.values()].filter((one) => `#${one.room}` === current).map((one) => one.name);
  $("typing").textContent = names.length === 0 ? "" : names.length < 3 ? `${names.join(" and ")} ${names.length === 1 ? "is" : "are"} typing…` : "Several people are typing…";
}

function draw() {
  drawRooms();
  drawPeople();
  drawTitle();
  drawLog();
  drawTyping();
}

function show(id) {
  if (id === null) return;
  current = id;
  conversation(id).unread = 0;
  if (id.startsWith("#") && !joined.has(id.slice(1))) {
    joined.add(id.slice(1));
    remember();
    link.send({ type: "join", room: id.slice(1) });
  }
  drawers(null);
  draw();
  $("text").focus();
}

/* The state of the connection, in words, with the seconds that are left. */
function drawStatus({ state, code, reason, until }) {
  clearInterval(drawStatus.ticking);
  const status = $("status");
  status.hidden = me.name === null;
  status.dataset.state = $("app").dataset.link = state;
  const action = { waiting: "Try now", final: "Use here" }[state] ?? "";
  $("status-action").hidden = !action;
  $("status-action").textContent = action;
  if (state !== "open") $("latency").textContent = "";
  const why = { 1012: "Server restarts", 1013: "Server is busy" }[code] ?? "Connection lost";
  const words = { connecting: "Connecting…", open: "Connected", offline: "You are offline", final: code === 4409 ? "Open in another tab" : `Closed: ${reason || code}` };
  const say = () => {
    const text = words[state] ?? `${why} · back in ${Math.max(0, (until - Date.now()) / 1000).toFixed(1)} s`;
    if ($("status-text").textContent !== text) $("status-text").textContent = text;
  };
  if (state === "waiting") drawStatus.ticking = setInterval(say, 200);
  say();
  if (me.name !== null) drawLog();
}

/* What the server says. */
const heard = {
  welcome() {
    link.settled();
    remember();
    $("sign-in").close();
    $("me").replaceChildren(face(me.name, "online"), element("div", {}, me.name, element("small", {}, "this is you")));
    $("me").hidden = false;
    for (const one of conversations.values()) for (const message of one.messages.values()) if (message.pending) speak(message);
    if (document.hidden) link.send({ type: "presence", away: true });
    draw();
  },
  roster(news) {
    roster = news;
    drawRooms();
    drawPeople();
    drawTitle();
  },
  history({ messages }) {
    for (const message of messages) keep(message, false);
    draw();
  },
  message(message) {
    typing.delete(`${message.to} ${message.sender}`);
    keep(message, true);
    draw();
  },
  typing({ room, name }) {
    const key = `#${room} ${name}`;
    clearTimeout(typing.get(key)?.timer);
    typing.set(key, { room, name, timer: setTimeout(() => { typing.delete(key); drawTyping(); }, 3000) });
    drawTyping();
  },
  pulse({ latency }) {
    $("latency").textContent = latency === null ? "" : `${latency < 10 ? latency.toFixed(1) : Math.round(latency)} ms`;
  },
};

function keep(message, counts) {
  const id = message.to.startsWith("@") && message.sender !== me.name ? `@${message.sender}` : message.to;
  const one = conversation(id);
  const known = one.messages.has(message.id);
  one.messages.set(message.id, message);
  while (one.messages.size > 500) one.messages.delete(one.messages.keys().next().value);
  const unseen = id !== current || document.hidden;
  if (counts && !known && unseen && message.sender !== me.name) one.unread += 1;
}

link.addEventListener("state", ({ detail }) => {
  if (detail.state === "final" && !$("sign-in").open && detail.reason.includes("taken")) return askName("Somebody else took that name meanwhile.");
  if (detail.state === "final" && $("sign-in").open) return askName(detail.reason.includes("taken") ? "That name is taken." : detail.reason);
  drawStatus(detail);
});
link.addEventListener("open", () => link.send({ type: "hello", name: me.name, key: me.key, rooms: [...joined] }));
link.addEventListener("message", ({ detail }) => heard[detail.type]?.(detail));

/* What the person does. */
function speak({ id, to, text }) {
  return to.startsWith("#") ? link.send({ type: "say", id, room: to.slice(1), text }) : link.send({ type: "whisper", id, to: to.slice(1), text });
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  const id = crypto.getRandomValues(new Uint32Array(4)).join("-");
  const message = { id, sender: me.name, to: current, text, at: Date.now() / 1000, pending: true };
  conversation(current).messages.set(message.id, message);
  speak(message);
  $("text").value = "";
  $("log").scrollTop = $("log").scrollHeight;
  drawLog();
});

let typed = 0;
$("text").addEventListener("input", () => {
  if (!current.startsWith("#") || Date.now() - typed < 1500 || !$("text").value) return;
  typed = Date.now();
  link.send({ type: "typing", room: current.slice(1) });
});
$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});

$("new-room").addEventListener("submit", (event) => {
  event.preventDefault();
  const room = $("room-name").value.trim().toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 24);
  $("room-name").value = "";
  if (room) show(`#${room}`);
});
$("leave").addEventListener("click", () => {
  joined.delete(current.slice(1));
  remember();
  link.send({ type: "leave", room: current.slice(1) });
  conversations.delete(current);
  show("#lobby");
});
$("status-action").addEventListener("click", () => link.open());

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") return drawers(null);
  if (!event.altKey || (event.key !== "ArrowDown" && event.key !== "ArrowUp") || $("sign-in").open) return;
  event.preventDefault();
  const order = [...roster.rooms.filter((room) => joined.has(room.name)).map((room) => `#${room.name}`), ...[...conversations.keys()].filter((id) => id.startsWith("@"))];
  const step = event.key === "ArrowDown" ? 1 : order.length - 1;
  if (order.length) show(order[(order.indexOf(current) + step) % order.length]);
});
document.addEventListener("visibilitychange", () => {
  link.send({ type: "presence", away: document.hidden });
  if (!document.hidden) { conversation(current).unread = 0; drawRooms(); }
});

function drawers(open) {
  for (const name of ["rooms", "people"]) {
    $(`${name}-pane`).classList.toggle("open", name === open);
    $(`${name}-button`).setAttribute("aria-expanded", String(name === open));
  }
}
for (const name of ["rooms", "people"]) {
  $(`${name}-button`).addEventListener("click", () => {
    drawers($(`${name}-pane`).classList.contains("open") ? null : name);
    $(`${name}-pane`).querySelector("button")?.focus();
  });
}
$("shade").addEventListener("click", () => drawers(null));

const wanted = localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
document.documentElement.dataset.theme = wanted;
$("theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
});

/* Signing in. */
function askName(error = "") {
  $("sign-in-error").textContent = error;
  if (!$("sign-in").open) $("sign-in").showModal();
  $("name").select();
}
$("sign-in").addEventListener("cancel", (event) => event.preventDefault());
$("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  $("sign-in-error").textContent = "";
  me.name = $("name").value.trim();
  link.open();
});

const first = ["Quiet", "Brave", "Swift", "Merry", "Calm", "Bright", "Clever", "Gentle"];
const second = ["Otter", "Heron", "Badger", "Finch", "Lynx", "Marten", "Robin", "Hare"];
const any = (list) => list[Math.floor(Math.random() * list.length)];
$("name").value = memory.get("name") ?? `${any(first)} ${any(second)}`;
if (memory.get("name")) {
  me.name = memory.get("name");
  link.open();
} else {
  askName();
}

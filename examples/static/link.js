/*
 * Link: one WebSocket that comes back.
 *
 * It waits a random time between 0 and a bound that doubles (full jitter: a thousand browsers that lost
 * the same server do not return in the same second), starts at once when the network is back, and does
 * not come back after a final close. A browser cannot see pings, so a link on which nothing has
 * arrived for `silence` milliseconds is taken for dead.
 */

const FINAL = new Set([1000, 1003, 4409]);

export class Link extends EventTarget {
  constructor(url, { base = 600, cap = 20_000, silence = 16_000 } = {}) {
    super();
    Object.assign(this, { url, base, cap, silence, attempt: 0, state: "idle", socket: null });
    addEventListener("online", () => this.state === "offline" && this.open());
    addEventListener("offline", () => this.socket && this.lost(1006, "the network is gone"));
  }

  open() {
    this.drop();
    this.become("connecting");
    const socket = new WebSocket(this.url);
    this.socket = socket;
    socket.onopen = () => { this.listen(); this.dispatchEvent(new Event("open")); };
    socket.onmessage = ({ data }) => { this.listen(); this.dispatchEvent(new CustomEvent("message", { detail: JSON.parse(data) })); };
    socket.onclose = ({ code, reason }) => this.lost(code, reason);
  }

  /* The other side has taken us in: from here on the next drop starts with a short wait again. */
  settled() {
    this.attempt = 0;
    this.become("open");
  }

  send(message) {
    if (this.state !== "open" && message.type !== "hello") return false;
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  lost(code, reason) {
    this.drop();
    if (FINAL.has(code)) return this.become("final", { code, reason });
    if (!navigator.onLine) return this.become("offline", { code, reason });
    const wait = Math.random() * Math.min(this.cap, this.base * 2 ** this.attempt++);
    this.timer = setTimeout(() => this.open(), wait);
    this.become("waiting", { code, reason, until: Date.now() + wait });
  }

  listen() {
    clearTimeout(this.watch);
    this.watch = setTimeout(() => this.lost(1006, "silence"), this.silence);
  }

  drop() {
    clearTimeout(this.timer);
    clearTimeout(this.watch);
    const socket = this.socket;
    this.socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  become(state, detail = {}) {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, ...detail } }));
  }
}

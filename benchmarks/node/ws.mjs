// ws (Node): a loop of send(), with the payload built once.
import { WebSocketServer } from "ws";

const members = new Set();
const rooms = new Map();
const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(process.env.PORT),
  backlog: 4096,
  perMessageDeflate: process.env.COMPRESSION === "deflate",
});

server.on("connection", (socket, request) => {
  const url = new URL(request.url, "http://localhost");
  if (url.pathname === "/echo") {
    socket.on("message", (data) => socket.send(data.toString()));
    return;
  }
  const names = (url.searchParams.get("rooms") ?? "").split(",").filter(Boolean);
  const joined = [members, ...names.map((name) => rooms.get(name) ?? rooms.set(name, new Set()).get(name))];
  for (const group of joined) group.add(socket);
  socket.on("close", () => joined.forEach((group) => group.delete(socket)));
  socket.on("message", (data) => {
    const [verb, count, size, room] = data.toString().split(" ");
    if (verb !== "broadcast") return;
    const payload = Buffer.from("x".repeat(Number(size)));
    for (let sent = 0; sent < Number(count); sent++)
      for (const member of room ? (rooms.get(room) ?? []) : members) member.send(payload, { binary: false });
  });
});

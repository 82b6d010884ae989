// socket.io (Node): emit to all, or to a room.
import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const server = new Server(http, { pingInterval: 3_600_000, pingTimeout: 3_600_000 });
server.on("connection", (socket) => {
  socket.on("c", (text) => {
    const [verb, count, size, room] = text.split(" ");
    if (verb !== "broadcast") return;
    const payload = "x".repeat(Number(size));
    for (let sent = 0; sent < Number(count); sent++) (room ? server.to(room) : server).emit("m", payload);
  });
});
http.listen({ host: "127.0.0.1", port: Number(process.env.PORT), backlog: 4096 });

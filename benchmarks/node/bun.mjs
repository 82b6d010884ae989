// Bun (uWebSockets): native publish.
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT),
  fetch(request, server) {
    const url = new URL(request.url);
    const rooms = (url.searchParams.get("rooms") ?? "").split(",").filter(Boolean);
    if (server.upgrade(request, { data: { echo: url.pathname === "/echo", rooms } })) return;
    return new Response("hello");
  },
  websocket: {
    idleTimeout: 960,
    backpressureLimit: 64 * 1024 * 1024,
    perMessageDeflate: process.env.COMPRESSION === "deflate",
    open(socket) {
      if (socket.data.echo) return;
      socket.subscribe("everybody");
      for (const room of socket.data.rooms) socket.subscribe(room);
    },
    message(socket, text) {
      if (socket.data.echo) {
        socket.send(text);
        return;
      }
      const [verb, count, size, room] = text.split(" ");
      if (verb !== "broadcast") return;
      const payload = "x".repeat(Number(size));
      for (let sent = 0; sent < Number(count); sent++) server.publish(room ?? "everybody", payload);
    },
  },
});

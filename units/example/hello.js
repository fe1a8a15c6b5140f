// Hello, by Node's http server, on the socket that the supervisor keeps. A reload loses no request.
const http = require("http");
const { spawn } = require("child_process");

const RELEASE = 1;

const server = http.createServer((request, response) => {
  if (stopping) response.setHeader("Connection", "close"); // the client's next connection goes to the new release
  response.end(`release ${RELEASE}\n`);
});
let stopping = false;

process.on("SIGTERM", () => {
  stopping = true;
  server.close(); // accept no more; Node ends when the last connection is closed
  server.closeIdleConnections(); // Node 18.2 or later
});

server.listen({ fd: 3 }, () => {
  if (process.env.NOTIFY_SOCKET) spawn("sdsupervise", ["ready"], { stdio: "inherit" });
});

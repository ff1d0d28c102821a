/**
 * The guard of an engine that is not a Node program: `node guard.js CONTAINER COMMAND ARG…`. It starts the command,
 * tells its parent `{enginePid}`, passes SIGTERM on, and ends the command when the parent is gone, however the parent
 * ended. A CONTAINER other than `-` is what the command (`docker run`) has started: killing the command alone would
 * leave it behind.
 */
import { spawn, spawnSync } from "node:child_process";

const GRACE_MS = 10_000;

const [container, command, ...args] = process.argv.slice(2);
const engine = spawn(command, args, { stdio: ["ignore", "inherit", "inherit"] });

let ending = false;
function end(): void {
  if (ending) return;
  ending = true;
  engine.kill("SIGTERM");
  setTimeout(() => engine.kill("SIGKILL"), GRACE_MS).unref();
}

function leave(code: number): never {
  if (container !== "-") spawnSync("docker", ["rm", "--force", container], { stdio: "ignore" });
  process.exit(code);
}

// In a terminal Ctrl-C reaches the whole process group; the one who started the engine decides when it ends.
process.on("SIGINT", () => undefined);
process.on("SIGTERM", end);
process.on("disconnect", end);
// The parent may be gone already.
if (process.connected === false) end();
engine.once("spawn", () => {
  if (process.connected) process.send?.({ enginePid: engine.pid });
});
engine.once("error", (error) => {
  process.stderr.write(`${command}: ${error.message}\n`);
  leave(127);
});
engine.once("exit", (code, signal) => leave(ending ? 0 : (code ?? (signal === null ? 1 : 128))));

// The process that spawns the CLIs for a runner; runner/claude/spawner.ts is its other end and says why. Plain JavaScript, so
// that it is the same file in the sources and in the build. It keeps nothing, and reads nothing that a CLI prints.
import { spawn } from 'node:child_process'
import { rmSync } from 'node:fs'
import { connect } from 'node:net'
import { dirname } from 'node:path'

const path = process.argv[2]
let secret = ''

// A signal for all of a service is for the runner, which ends its runs first; this process ends with the runner.
for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(name, () => undefined)

process.on('message', (message) => {
  if (message.id === undefined) secret = message.secret
  else void start(message)
})
process.on('disconnect', end)

function end() {
  rmSync(dirname(path), { recursive: true, force: true })
  process.exit(0)
}

function say(news) {
  // A runner that cannot be told any more has ended, and that ends this.
  if (process.connected) process.send(news, () => undefined)
}

async function start({ id, command, argv, cwd, env }) {
  const refuse = ({ code, message }) => say({ id, error: { code: code ?? '', message } })
  const sockets = [0, 1, 2].map(() => connect(path))
  try {
    await Promise.all(sockets.map((socket, fd) => opened(socket, `${secret}${id}${fd}`)))
    // That is what a runner does with them when it has no descriptors left.
    if (sockets.some(({ writable }) => !writable)) throw new Error('the runner has closed a pipe')
  } catch (error) {
    for (const socket of sockets) socket.destroy()
    return say({ id, unreached: error.message })
  }
  try {
    const child = spawn(command, argv, { cwd, env, detached: true, stdio: sockets })
    child.once('error', refuse)
    child.once('spawn', () => say({ id, pid: child.pid }))
    child.once('exit', (code, signal) => say({ id, exit: { code, signal } }))
  } catch (error) {
    refuse(error)
  } finally {
    // The CLI has its own copies by now; one that stayed here would keep its output from ending.
    for (const socket of sockets) socket.destroy()
  }
}

/** Resolves when the runner has been told which connection it is. */
function opened(socket, name) {
  return new Promise((resolve, reject) => {
    socket.once('connect', () => socket.write(name, resolve))
    socket.on('error', reject)
  })
}

if (process.connected) say({})
else end()

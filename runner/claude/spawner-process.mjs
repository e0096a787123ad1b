// The process that spawns the CLIs for a runner; runner/claude/spawner.ts is its other end and says why. Plain JavaScript, so
// that it is the same file in the sources and in the build. It keeps nothing, and reads nothing that a CLI prints.
import { spawn } from 'node:child_process'
import { rmSync } from 'node:fs'
import { connect } from 'node:net'
import { dirname } from 'node:path'

let path = ''
let secret = ''

// A signal for all of a service is for the runner, which ends its runs first; this process ends with the runner.
for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(name, () => undefined)
process.on('disconnect', () => {
  rmSync(dirname(path), { recursive: true, force: true })
  process.exit(0)
})

process.on('message', (message) => {
  if (message.id === undefined) ({ path, secret } = message)
  else void start(message)
})

const say = (news) => process.connected && process.send(news)

async function start({ id, command, argv, cwd, env }) {
  const sockets = []
  const refuse = ({ code, message }) => say({ id, error: { code: code ?? '', message } })
  try {
    for (const fd of [0, 1, 2]) sockets.push(await opened(`${secret}${id}${fd}`))
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

/** A connection to the runner that has said which one it is. */
function opened(name) {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => socket.write(name, () => resolve(socket)))
    socket.once('error', reject)
  })
}

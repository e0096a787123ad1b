// What reader.ts starts: one connection that reads, in a thread of its own. JavaScript, because a thread is started from
// its file as it is, and Node 20 knows no types. It answers one query with one message.
import { createClient } from '@libsql/client'
import { parentPort, workerData } from 'node:worker_threads'

/** It may wait inside SQLite: there is nobody else in this thread. */
const LOCK_TIMEOUT_MS = 2_000

let client

async function opened() {
  const made = createClient({ url: `file:${workerData.path}`, concurrency: 1, timeout: LOCK_TIMEOUT_MS })
  await made.executeMultiple('PRAGMA query_only = ON')
  return made
}

async function answer({ sql, args }) {
  try {
    client ??= await opened()
    const { columns, rows } = await client.execute({ sql, args })
    return { rows: rows.map((row) => Object.fromEntries(columns.map((name, at) => [name, row[at]]))) }
  } catch (error) {
    // A statement that was refused keeps its snapshot, so the connection would read what is out of date from now on.
    client?.close()
    client = undefined
    return { error: { message: error.message, code: error.code } }
  }
}

parentPort.on('message', async (query) => {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread is no window
  if (query !== undefined) return parentPort.postMessage(await answer(query))
  client?.close()
  parentPort.close()
})

// One of several routers on one database file: `node limits-router.mjs <data dir> <database>`. Prints where it listens.
import { startRouter } from '../../dist/router/node/server.js'

const [dataDir, database] = process.argv.slice(2)
const error = (fields, message) => process.stderr.write(`${message} ${fields.err}\n`)
const log = { info: () => undefined, warn: () => undefined, error }
const options = { dataDir, database, host: '127.0.0.1', port: 0, allowedHosts: [], corsOrigins: [], timeoutS: 60, log }
const router = await startRouter(options)
process.once('SIGTERM', () => void router.close())
process.stdout.write(`${JSON.stringify({ event: 'ready', url: router.url })}\n`)

// One of several processes that want to try the same provider. For each provider that it reads, it prints whether it may.
import { createInterface } from 'node:readline'
import { openDatabase } from '../../dist/router/node/database.js'
import { claimProbe } from '../../dist/router/store/provider-health.js'

const database = await openDatabase(process.argv[2])
process.stdout.write('ready\n')
for await (const provider of createInterface({ input: process.stdin })) {
  const claimed = await claimProbe(database.db, 'default', provider, 1_000, 2_000 + process.pid, [''])
  process.stdout.write(`${claimed.length}\n`)
}
await database.close()

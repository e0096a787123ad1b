/** Faults of a runner that makes less of its disk than it promises. */
import { readdirSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { Spool } from '../../runner/spool.ts'
import { replace, type Mutant } from './mutant.ts'

export const dropOnSend: Mutant = {
  name: 'spool dropped on send',
  as: /^I9: .* without a cause/,
  patch: () =>
    replace(Spool.prototype, 'read', (original) => function (seq, maxBytes) {
      const read = original.call(this, seq, maxBytes)
      const upTo = read?.kind === 'lines' ? read.first + read.count - 1 : seq
      if (upTo === this.last && readdirSync(join(this.path, '..')).some((name) => this.path.endsWith(name))) unlinkSync(this.path)
      return read
    }),
}

export const inMemorySpool: Mutant = {
  name: 'in-memory spool',
  as: /^I9: .* without a cause/,
  faults: (faults) => ({
    ...faults,
    killed({ dir }) {
      for (const name of readdirSync(dir)) unlinkSync(join(dir, name))
    },
  }),
}

export const acceptBeforeIntent: Mutant = {
  name: 'accept before the intent is durable',
  as: /^I8: .* was accepted before/,
  patch: () =>
    replace(Spool.prototype, 'intended', (original) => function () {
      original.call(this).catch(() => undefined)
      return Promise.resolve()
    }),
}

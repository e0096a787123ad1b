import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** They take a minute or more, and nothing tells it by their size: begun last, one of them would be waited for alone. */
const LONGEST = [
  'test/e2e/providers.test.ts',
  'test/host-workers.test.ts',
  'runner/claude/process.test.ts',
  'test/host-node.test.ts',
  'test/e2e/warm.test.ts',
  'test/e2e/workers.test.ts',
  'test/e2e/workspaces.test.ts',
  'test/e2e/config-files.test.ts',
  'test/chaos/herd.test.ts',
]

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const at = LONGEST.findIndex((path) => moduleId.endsWith(path))
      return at === -1 ? LONGEST.length : at
    }
    // oxlint-disable-next-line unicorn/no-array-sort -- it is no array's
    const usual = await super.sort(files)
    return usual.toSorted((a, b) => rank(a) - rank(b))
  }
}

export default defineConfig({
  test: {
    include: ['{shared,router,runner,cli,edge,test}/**/*.test.ts'],
    // Two cores run the suite in CI: more workers only make the end-to-end tests slow enough to time out.
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
})

import { configDefaults, defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** They take half a minute or more, and nothing tells it by their size: begun last, one of them would be waited for alone. */
const LONGEST = [
  'test/host-workers.test.ts',
  'test/e2e/providers.test.ts',
  'test/host-node.test.ts',
  'test/admin-cli.test.ts',
  'test/e2e/workers.test.ts',
  'test/e2e/gateway.test.ts',
  'test/e2e/workspaces.test.ts',
  'test/e2e/config-files.test.ts',
  'runner/claude/process.test.ts',
  'test/workers-database.test.ts',
  'test/e2e/warm.test.ts',
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

/**
 * They need a process that no other file was in: the models have modules of ours replaced before these are loaded, and a
 * process that is measured is not to have what others have left behind.
 */
const ALONE = ['test/protocol-model/**/*.test.ts', 'test/slow-subscribers.test.ts']

/** They say within what time, of all that two cores can do: nothing else is to run beside them. */
const TIMED = ['test/chaos/herd.test.ts', 'router/store/delivery-turns.test.ts']

export default defineConfig({
  test: {
    // Two cores run the suite in CI. A third worker is hardly sooner done (566 to 655 s), and end-to-end tests come too late.
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    // What hangs is ended by it, and nothing else: the slowest test takes 25 s.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    projects: [
      {
        extends: true,
        test: {
          name: 'all',
          include: ['{shared,router,runner,cli,edge,test}/**/*.test.ts'],
          exclude: [...configDefaults.exclude, ...ALONE, ...TIMED],
          // A process and every module anew for each file costs 0.6 s of CPU, which of 240 files is a sixth of everything.
          isolate: false,
        },
      },
      { extends: true, test: { name: 'alone', include: ALONE } },
      { extends: true, test: { name: 'timed', include: TIMED, maxWorkers: 1, sequence: { groupOrder: 1 } } },
    ],
  },
})

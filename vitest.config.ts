import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['{shared,router,runner,cli,edge,test}/**/*.test.ts'],
    // Two cores run the suite in CI: more workers only make the end-to-end tests slow enough to time out.
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
})

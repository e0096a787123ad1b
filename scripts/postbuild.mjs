// After tsc: the bin must be executable, and the stamp tells scripts/ensure.mjs that the build is whole.
import { chmodSync, writeFileSync } from 'node:fs'

chmodSync('dist/cli/main.js', 0o755)
writeFileSync('dist/.built', '')

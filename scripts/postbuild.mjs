// After tsc: what it does not copy, the files of the docs page, an executable bin, and the stamp that tells scripts/ensure.mjs that the build is whole.
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs'

// Of swagger-ui-dist only what the page loads, and what its license (Apache 2.0) asks to go with it.
const SWAGGER_UI = ['swagger-ui.css', 'swagger-ui-bundle.js', 'swagger-ui-bundle.js.LICENSE.txt', 'favicon-32x32.png', 'LICENSE', 'NOTICE']
mkdirSync('dist/assets', { recursive: true })
for (const file of SWAGGER_UI) copyFileSync(`node_modules/swagger-ui-dist/${file}`, `dist/assets/${file}`)
copyFileSync('router/docs/init.js', 'dist/assets/init.js')

for (const file of ['router/node/reader-thread.mjs', 'runner/claude/spawner-process.mjs']) copyFileSync(file, `dist/${file}`)

chmodSync('dist/cli/main.js', 0o755)
writeFileSync('dist/.built', '')

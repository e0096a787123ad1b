/** `npm run build:workers`: the Worker's bundle, and how large it has become. */
import { relative } from 'node:path'
import { bundleWorker } from './bundle.ts'

const { path, bytes, gzipBytes } = await bundleWorker()
const kib = (n: number) => `${Math.ceil(n / 1_024)} KiB`
process.stdout.write(`${relative(process.cwd(), path)}  ${kib(bytes)}, ${kib(gzipBytes)} gzip\n`)

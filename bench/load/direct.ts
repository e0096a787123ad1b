/** A program started by hand: what a person at the machine would wait for. */
import { spawn } from 'node:child_process'
import type { Direct } from './client.ts'

const NEWLINE = 0x0a

/** Rejects when it ends without a line that has `until` in it. */
export async function direct({ command, args, cwd, env, input, until }: Direct): Promise<{ firstLineMs: number; endMs: number }> {
  const began = performance.now()
  const child = spawn(command, args, { cwd, env, stdio: ['pipe', 'pipe', 'pipe'] })
  child.stdin.on('error', () => undefined)
  child.stdin.write(input)
  let firstLineMs: number | undefined
  let found = false
  let rest = ''
  let said = ''
  child.stderr.on('data', (piece: Buffer) => (said += piece.toString()))
  child.stdout.on('data', (piece: Buffer) => {
    if (firstLineMs === undefined && piece.includes(NEWLINE)) firstLineMs = performance.now() - began
    if (found) return
    rest = (rest + piece.toString('latin1')).slice(-(until.length + piece.length))
    found = rest.includes(until)
    if (found) child.stdin.end()
  })
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  if (firstLineMs === undefined || !found) throw new Error(`${command} ended with ${code} before its last line: ${said.slice(-500)}`)
  return { firstLineMs, endMs: performance.now() - began }
}

/**
 * What the two processes of the two-hop floor say to each other: binary both ways, no name of a run longer than a number.
 *
 * To the runner a message is a kind, a run and for START the prompt, for ACK how many bytes. To the router it is a run and
 * whole lines; no lines: it has ended.
 */
export const START = 1
export const CANCEL = 2
export const ACK = 3
/** Bytes of one run that are under way and not acknowledged, as the product has it. */
export const WINDOW = 256 * 1024
export const RUN_BYTES = 4

export function toRunner(kind: number, run: number, rest: string | number = ''): Buffer {
  const text = typeof rest === 'string' ? Buffer.from(rest) : undefined
  const message = Buffer.allocUnsafe(1 + RUN_BYTES + (text?.length ?? 4))
  message[0] = kind
  message.writeUInt32LE(run, 1)
  if (text) message.set(text, 1 + RUN_BYTES)
  else message.writeUInt32LE(rest as number, 1 + RUN_BYTES)
  return message
}

export function toRouter(run: number, lines: Buffer): Buffer {
  const message = Buffer.allocUnsafe(RUN_BYTES + lines.length)
  message.writeUInt32LE(run, 0)
  message.set(lines, RUN_BYTES)
  return message
}

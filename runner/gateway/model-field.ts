/**
 * The `model` of a request, found in its bytes and replaced there: everything around it stays as it was sent, byte for
 * byte. Only the outermost object counts; a `model` in a message or a tool is somebody's text.
 *
 * It is no validator. Of a body that is not a JSON object as far as it looks, it finds nothing and changes nothing.
 */

/** `start` and `end` are those of the string with its quotes. */
type Field = { readonly start: number; readonly end: number; readonly value: string }
/** `end` may be past blanks behind the value. */
type Member = { readonly key: string; readonly start: number; readonly end: number; readonly text: Field | undefined }

const [QUOTE, BACKSLASH, COLON, COMMA] = [0x22, 0x5c, 0x3a, 0x2c]
const OPEN = new Set([0x7b, 0x5b])
const CLOSE = new Set([0x7d, 0x5d])
const BLANK = new Set([0x20, 0x09, 0x0a, 0x0d])

/** As the last of several is the one that JSON readers take. Null: there is none, or it is no string. */
export function modelOf(body: Uint8Array): string | null {
  return fields(body).at(-1)?.value ?? null
}

/** Every name under which a reader of JSON may find the model: some take the first of several, some do not care for case. */
export function modelsOf(body: Uint8Array): readonly string[] {
  return fields(body, (key) => key.toLowerCase() === 'model').map(({ value }) => value)
}

/** Whether the answer is to come in pieces, so that its headers need not wait for all of it. */
export function isStreamed(body: Uint8Array): boolean {
  const said = members(body).findLast(({ key }) => key === 'stream')
  return said !== undefined && /^true\s*$/.test(Buffer.from(body.subarray(said.start, said.end)).toString('latin1'))
}

/** The same body with every outermost `model` replaced by what `rename` says; the same object where that is the same. */
export function withModel(body: Uint8Array, rename: (model: string) => string): Uint8Array {
  const parts: Uint8Array[] = []
  let from = 0
  for (const { start, end, value } of fields(body)) {
    const renamed = rename(value)
    if (renamed === value) continue
    parts.push(body.subarray(from, start), Buffer.from(JSON.stringify(renamed)))
    from = end
  }
  return from === 0 ? body : Buffer.concat([...parts, body.subarray(from)])
}

function fields(body: Uint8Array, isModel = (key: string): boolean => key === 'model'): Field[] {
  return members(body).flatMap(({ key, text }) => (text && isModel(key) ? text : []))
}

/** Of the outermost object. */
function members(body: Uint8Array): Member[] {
  const found: Member[] = []
  let at = blanks(body, 0)
  if (body[at] !== 0x7b) return []
  at = blanks(body, at + 1)
  while (body[at] === QUOTE) {
    const key = string(body, at)
    if (!key) return []
    at = blanks(body, key.end)
    if (body[at] !== COLON) return []
    at = blanks(body, at + 1)
    const text = body[at] === QUOTE ? string(body, at) : undefined
    const end = text ? text.end : skipped(body, at)
    if (end < 0) return []
    found.push({ key: key.value, start: at, end, text })
    at = end
    at = blanks(body, at)
    if (body[at] === 0x7d) return blanks(body, at + 1) === body.length ? found : []
    if (body[at] !== COMMA) return []
    at = blanks(body, at + 1)
  }
  return []
}

function blanks(body: Uint8Array, from: number): number {
  let at = from
  while (BLANK.has(body[at] ?? 0)) at++
  return at
}

/** The string that begins at `start`. What is too long to be a name is not decoded. */
function string(body: Uint8Array, start: number): Field | undefined {
  const end = endOfString(body, start)
  if (end < 0) return undefined
  if (end - start > 1_024) return { start, end, value: '' }
  try {
    return { start, end, value: String(JSON.parse(Buffer.from(body.subarray(start, end)).toString('utf8'))) }
  } catch {
    return undefined
  }
}

/** A prompt of megabytes is one string, so its end is looked for natively: a quote that no odd number of backslashes escapes. */
function endOfString(body: Uint8Array, start: number): number {
  for (let at = body.indexOf(QUOTE, start + 1); at >= 0; at = body.indexOf(QUOTE, at + 1)) {
    let first = at
    while (first > start + 1 && body[first - 1] === BACKSLASH) first--
    if ((at - first) % 2 === 0) return at + 1
  }
  return -1
}

/** Behind a value that is no string. */
function skipped(body: Uint8Array, start: number): number {
  let depth = 0
  for (let at = start; at < body.length; at++) {
    const byte = body[at]!
    if (byte === QUOTE) {
      at = endOfString(body, at) - 1
      if (at < 0) return -1
    } else if (OPEN.has(byte)) depth++
    else if (CLOSE.has(byte) || byte === COMMA) {
      // The end of the object around it, or the comma after it.
      if (depth === 0) return at
      if (byte !== COMMA && --depth === 0) return at + 1
    }
  }
  return -1
}

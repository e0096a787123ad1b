import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isStreamed, modelOf, modelsOf, withModel } from './model-field.ts'

const bytes = (text: string) => Buffer.from(text)
const renamed = (text: string, map: Record<string, string> = { a: 'b' }) =>
  Buffer.from(withModel(bytes(text), (model) => (Object.hasOwn(map, model) ? map[model]! : model))).toString()

describe('the model of a request', () => {
  it.each([
    ['{"model":"a","x":1}', 'a'],
    ['  { "x" : [1,{"model":"z"}] , "model" : "a" } \n', 'a'],
    ['{"messages":[{"content":"\\"model\\":\\"z\\",{[\\\\"}],"model":"a"}', 'a'],
    ['{"m\\u006fdel":"\\u0061"}', 'a'],
    ['{"model":"z","model":"a"}', 'a'],
    ['{"model":null}', null],
    ['{"other":"model"}', null],
    ['{}', null],
    ['[{"model":"a"}]', null],
    ['"model"', null],
    ['{"model":"a"', null],
    ['{"model":"a"} {"model":"b"}', null],
    ['{"model":"a",}', null],
    ['', null],
  ])('of %j is %j', (text, model) => {
    expect(modelOf(bytes(text))).toBe(model)
  })

  it('has every name that some reader may take', () => {
    expect(modelsOf(bytes('{"model":"a","Model":"b","MODEL":["c"],"x":{"model":"d"},"model":"e"}'))).toEqual(['a', 'b', 'e'])
  })

  it.each([
    ['{"stream":true}', true],
    ['{"stream" : true , "x":1}', true],
    ['{"stream":false,"stream":true}', true],
    ['{"stream":true,"stream":false}', false],
    ['{"stream":"true"}', false],
    ['{"stream":[true]}', false],
    ['{"x":{"stream":true}}', false],
    ['{"stream":true', false],
    ['{}', false],
    ['', false],
  ])('asks for a stream in %j: %j', (text, streamed) => {
    expect(isStreamed(bytes(text))).toBe(streamed)
  })

  it('is replaced where it stands, and nothing else is touched', () => {
    expect(renamed('{ "x":1.0e2,\t"model" : "a" ,"messages":[{"model":"a"}]}')).toBe('{ "x":1.0e2,\t"model" : "b" ,"messages":[{"model":"a"}]}')
    expect(renamed('{"model":"a","model":"a"}')).toBe('{"model":"b","model":"b"}')
    expect(renamed('{"model":"a"}', { a: 'é"\\' })).toBe('{"model":"é\\"\\\\"}')
  })

  it('is left alone in what is no whole JSON object', () => {
    for (const text of ['{"model":"a"', 'x{"model":"a"}', '{"model":"a"}x', '{model:"a"}', '{"model" "a"}']) expect(renamed(text)).toBe(text)
  })

  it('stays the same bytes when it has no other name', () => {
    const body = bytes('{"model":"z"}')
    expect(withModel(body, (model) => model)).toBe(body)
  })

  it('is found in any object, wherever it stands and whatever is around it', () => {
    const key = fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('model', 'messages', '{', '}', '"', '\\', ',', ':'))
    const value = fc.letrec((tie) => ({
      any: fc.oneof({ depthSize: 'small' }, fc.string({ unit: 'binary' }), fc.double(), fc.boolean(), fc.constant(null), fc.array(tie('any')), fc.dictionary(key, tie('any'))),
    })).any
    const entries = fc.uniqueArray(fc.tuple(key, value), { selector: ([name]) => name, maxLength: 8 })
    fc.assert(
      fc.property(entries, fc.string({ unit: 'binary' }), fc.string(), fc.nat(8), fc.constantFrom(undefined, 1, '\t'), (around, model, to, at, indent) => {
        const list = around.filter(([name]) => name !== 'model' && name !== '__proto__')
        const place = Math.min(at, list.length)
        const whole = Object.fromEntries([...list.slice(0, place), ['model', model], ...list.slice(place)])
        const text = JSON.stringify(whole, null, indent)
        const body = bytes(text)
        expect(modelOf(body)).toBe(model)
        const after = Buffer.from(withModel(body, () => to)).toString()
        expect(JSON.parse(after)).toEqual(JSON.parse(JSON.stringify({ ...whole, model: to })))
        // Bytes before and after are the same ones.
        const kept = text.length - JSON.stringify(model).length
        let head = 0
        while (head < after.length && after[head] === text[head]) head++
        let tail = 0
        while (tail < after.length - head && after.at(-1 - tail) === text.at(-1 - tail)) tail++
        expect(head + tail).toBeGreaterThanOrEqual(Math.min(kept, after.length))
      }),
    )
  })

  it('is looked for without harm in any bytes', () => {
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array(), fc.string({ unit: fc.constantFrom('{', '}', '[', ']', '"', '\\', ':', ',', ' ', 'model', 'a') }).map(bytes)), (body) => {
        const found = modelOf(body)
        let parsed: unknown
        try {
          parsed = JSON.parse(Buffer.from(body).toString())
        } catch {
          return
        }
        const model = typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed) ? (parsed as Record<string, unknown>)['model'] : undefined
        expect(found).toBe(typeof model === 'string' ? model : null)
      }),
    )
  })
})

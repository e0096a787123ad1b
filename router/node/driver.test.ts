import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Driver } from './driver.ts'

let dir: string
let driver: Driver
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'runyard-driver-'))
  driver = new Driver(join(dir, 'test.db'), { timeout: 0 })
  driver.exec('PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, bytes BLOB)')
})
afterEach(async () => {
  driver.close()
  await rm(dir, { recursive: true, force: true })
})

const insert = (id: number, name = 'x') => ({ sql: 'INSERT INTO t (id, name) VALUES (?, ?)', args: [id, name] })
const names = () => driver.execute('SELECT name FROM t ORDER BY id').rows.map(({ name }) => name)

describe('a row', () => {
  it('has its values by name and by place', () => {
    driver.execute(insert(1, 'one'))
    const { columns, rows } = driver.execute('SELECT id, name, name AS id, 7, bytes FROM t')
    expect(columns).toEqual(['id', 'name', 'id', '7', 'bytes'])
    expect(rows[0]).toMatchObject({ id: 1, name: 'one', bytes: null })
    expect(Object.keys(rows[0]!).toSorted()).toEqual(['bytes', 'id', 'name'])
    expect(Array.prototype.slice.call(rows[0])).toEqual([1, 'one', 'one', 7, null])
  })

  it('keeps its places when a column has the name of one', () => {
    const { rows } = driver.execute('SELECT 5 AS "1", 6 AS "0", 7 AS length')
    expect(Array.prototype.slice.call(rows[0])).toEqual([5, 6, 7])
  })

  it('gives back bytes, text and numbers as they were given', () => {
    const values = [1, 'Grüße 👋', new Uint8Array([0, 255, 10])]
    driver.execute({ sql: 'INSERT INTO t VALUES (?, ?, ?)', args: values })
    expect(Array.prototype.slice.call(driver.execute('SELECT * FROM t').rows[0])).toEqual([1, 'Grüße 👋', Buffer.from([0, 255, 10])])
    expect(driver.execute({ sql: 'SELECT name FROM t WHERE id = :id', args: { ':id': 1 } }).rows[0]).toMatchObject({ name: 'Grüße 👋' })
    expect(driver.execute({ sql: 'SELECT ? AS yes, ? AS real', args: [true, 0.1 + 0.2] }).rows[0]).toMatchObject({ yes: 1, real: 0.1 + 0.2 })
  })
})

describe('a statement that is kept', () => {
  it('sees what was written since, and what became of the table', () => {
    driver.execute(insert(1, 'a'))
    expect(names()).toEqual(['a'])
    driver.execute(insert(2, 'b'))
    expect(names()).toEqual(['a', 'b'])
    driver.exec('DROP TABLE t; CREATE TABLE t (name TEXT, id INTEGER)')
    expect(names()).toEqual([])
  })

  it('holds no snapshot, so that the log can be folded back', () => {
    for (let i = 0; i < 200; i++) driver.execute(insert(i))
    for (const limit of [1, 99, 100, 101, 200]) expect(driver.execute({ sql: 'SELECT id FROM t LIMIT ?', args: [limit] }).rows).toHaveLength(limit)
    expect(driver.execute('PRAGMA wal_checkpoint(TRUNCATE)').rows[0]).toMatchObject({ busy: 0 })
  })

  it('can be asked again after it was refused', () => {
    driver.execute(insert(1, 'a'))
    for (let i = 0; i < 3; i++) expect(() => driver.execute(insert(1, 'b'))).toThrow(/UNIQUE/)
    driver.execute(insert(2, 'b'))
    expect(names()).toEqual(['a', 'b'])
  })

  it('is one of a bounded number', () => {
    for (let i = 0; i < 1_500; i++) expect(driver.execute(`SELECT ${i} AS n`).rows[0]).toMatchObject({ n: i })
    expect(driver.execute('SELECT 0 AS n').rows[0]).toMatchObject({ n: 0 })
  })
})

describe('a batch', () => {
  it('is kept as a whole or not at all, and leaves no transaction behind', () => {
    expect(() => driver.batch([insert(1), insert(2), insert(1)], 'deferred')).toThrow(/UNIQUE/)
    expect(names()).toEqual([])
    const [first, second] = driver.batch([insert(1, 'a'), 'SELECT name FROM t'], 'write')
    expect([first?.rows, second?.rows]).toEqual([[], [expect.objectContaining({ name: 'a' })]])
  })
})

describe('what SQLite cannot be given', () => {
  it.each([[Number.NaN, RangeError], [Number.POSITIVE_INFINITY, RangeError], [2n ** 63n, RangeError], [-(2n ** 63n) - 1n, RangeError], [undefined as never, TypeError]])('is refused: %s', (value, error) => {
    expect(() => driver.execute({ sql: 'SELECT ?', args: [value] })).toThrow(error)
  })
})

describe('a large number', () => {
  const MOST = Number.MAX_SAFE_INTEGER
  const read = (value: bigint | number) => driver.execute({ sql: 'SELECT ? AS n', args: [value] }).rows[0]!['n']

  it('is read as it was written, as long as it is exact', () => {
    for (const value of [MOST, -MOST, 2 ** 60, 1e300, -1e300]) expect(read(value)).toBe(value)
    for (const value of [BigInt(MOST), -BigInt(MOST)]) expect(read(value)).toBe(Number(value))
  })

  it('is refused when it is an integer that no number is exact enough for, and the next one is not', () => {
    for (const value of [2n ** 53n, -(2n ** 53n), 2n ** 63n - 1n, -(2n ** 63n)]) {
      expect(() => read(value)).toThrow(RangeError)
      expect(read(7n)).toBe(7)
    }
    driver.execute({ sql: 'INSERT INTO t (id) VALUES (?)', args: [2n ** 53n + 1n] })
    expect(() => driver.execute('SELECT id FROM t')).toThrow(RangeError)
    expect(driver.execute('SELECT 2.5 AS real, 7 AS id').rows[0]).toMatchObject({ real: 2.5, id: 7 })
  })
})

describe('a closed driver', () => {
  it('says so', () => {
    driver.close()
    expect(() => driver.execute('SELECT 1')).toThrow(expect.objectContaining({ code: 'CLIENT_CLOSED' }))
    expect(() => driver.exec('SELECT 1')).toThrow(expect.objectContaining({ code: 'CLIENT_CLOSED' }))
    driver.close()
  })
})

import { array, assert, constantFrom, dictionary, integer, nat, property, record } from 'fast-check'
import { describe, expect, it } from 'vitest'
import { queueOrder, type Waiting } from './queue-order.ts'

const waiting = (run: string, tenant: string, createdAt: number, priority = 5): Waiting => ({ run, tenant, priority, createdAt })
const idle = () => 0
const names = (order: readonly Waiting[]) => order.map((w) => w.run).join(' ')

describe('queueOrder', () => {
  it('puts priority before age', () => {
    expect(names(queueOrder([waiting('old', 'a', 1), waiting('urgent', 'a', 2, 10), waiting('idle', 'a', 0, 1)], idle))).toBe('urgent old idle')
  })

  it('gives tenants turns, so that one who posts much does not hold up one who posts little', () => {
    const many = Array.from({ length: 5 }, (_, i) => waiting(`a${i}`, 'a', i))
    expect(names(queueOrder([...many, waiting('b0', 'b', 100)], idle))).toBe('a0 b0 a1 a2 a3 a4')
  })

  it('counts what a tenant has under way already', () => {
    const order = queueOrder([waiting('a0', 'a', 0), waiting('b0', 'b', 1), waiting('b1', 'b', 2)], (tenant) => (tenant === 'a' ? 2 : 0))
    expect(names(order)).toBe('b0 b1 a0')
  })

  it('keeps everyone, never overtakes within a tenant and priority, and never puts a lower priority first', () => {
    const entry = record({ tenant: constantFrom('a', 'b', 'c'), priority: integer({ min: 1, max: 10 }), createdAt: nat(50) })
    assert(
      property(array(entry, { maxLength: 40 }), dictionary(constantFrom('a', 'b', 'c'), nat(5)), (entries, load) => {
        const line = entries.map((e, i) => ({ ...e, run: String(i).padStart(3, '0') }))
        const order = queueOrder(line, (tenant) => load[tenant] ?? 0)
        expect(order.map((w) => w.run).toSorted()).toEqual(line.map((w) => w.run))
        const wrong = order.flatMap((a, i) =>
          order.slice(i + 1).filter((b) => a.priority < b.priority || (a.tenant === b.tenant && a.priority === b.priority && a.createdAt > b.createdAt)),
        )
        expect(wrong).toEqual([])
      }),
    )
  })
})

import { describe, expect, it } from 'vitest'
import { mayAsk } from './allowed.ts'

const asks = (models: readonly string[] | null, env: Record<string, string> = {}) => {
  const may = mayAsk(models, env)
  return (...names: string[]) => names.map((name) => may(name))
}

describe('the models that a provider may be asked for', () => {
  it('are any where nobody named one, and none where the list is empty', () => {
    expect(asks(null)('x', 'constructor')).toEqual([true, true])
    expect(asks([])('x', 'constructor', '')).toEqual([false, false, false])
  })

  it('are those of the list by their whole names, whatever their window', () => {
    const names = asks(['claude-sonnet-4-5', 'glm-5'])
    expect(names('claude-sonnet-4-5', 'claude-sonnet-4-5[1m]', 'glm-5')).toEqual([true, true, true])
    expect(names('claude-opus-4-8', 'claude-sonnet-4-5-x', 'glm', 'Claude-Sonnet-4-5', 'toString')).toEqual([false, false, false, false, false])
  })

  it('are for an alias what the CLI makes of it', () => {
    expect(asks(['sonnet[1m]'])('claude-sonnet-4-5', 'claude-3-7-sonnet-20250219', 'sonnet')).toEqual([true, true, true])
    expect(asks(['sonnet'])('claude-opus-4-8', 'my-sonnet', 'claude-sonnets')).toEqual([false, false, false])
    expect(asks(['opusplan'])('claude-opus-4-8', 'claude-sonnet-4-5', 'claude-haiku-4-5')).toEqual([true, true, false])
  })

  it('are for an alias what the environment of the CLI says, and then nothing else', () => {
    const names = asks(['opus'], { ANTHROPIC_DEFAULT_OPUS_MODEL: 'glm-5[1m]' })
    expect(names('glm-5', 'opus', 'claude-opus-4-8')).toEqual([true, true, false])
  })
})

import { describe, expect, it } from 'vitest'
import { providerEnv } from './provider-env.ts'

describe('the env of a provider', () => {
  it('chooses models and tunes requests', () => {
    const env = {
      ANTHROPIC_MODEL: 'glm-4.6', ANTHROPIC_SMALL_FAST_MODEL: 'glm-4.5-air', ANTHROPIC_DEFAULT_SONNET_MODEL: 'a', ANTHROPIC_DEFAULT_OPUS_MODEL: 'b', ANTHROPIC_DEFAULT_HAIKU_MODEL: 'c',
      API_TIMEOUT_MS: '3000000', CLAUDE_CODE_MAX_OUTPUT_TOKENS: '8192', CLAUDE_CODE_SUBAGENT_MODEL: 'd', DISABLE_PROMPT_CACHING: '1',
    }
    expect(providerEnv(env)).toEqual({ env, ignored: [] })
  })

  it.each([
    'PATH', 'LD_PRELOAD', 'NODE_OPTIONS', 'NODE_EXTRA_CA_CERTS', 'HTTPS_PROXY', 'https_proxy', 'ALL_PROXY', 'NO_PROXY', 'HOME', 'SHELL', 'TMPDIR', 'CLAUDE_CONFIG_DIR', 'RUNYARD_PROCESS',
    'ANTHROPIC_BASE_URL', 'ANTHROPIC_UNIX_SOCKET', 'ANTHROPIC_BEDROCK_BASE_URL', 'ANTHROPIC_LOG', 'DEBUG', 'IS_SANDBOX', 'CLAUDE_CODE_BUBBLEWRAP', 'CLAUDE_CODE_RETRY_WATCHDOG',
    'CLAUDE_CODE_USE_BEDROCK', 'CLAUDE_CODE_USE_VERTEX', 'CLAUDE_CODE_OAUTH_TOKEN', 'CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST', 'CLAUDE_CODE_SHELL', 'CLAUDE_CODE_SHELL_PREFIX',
    'CLAUDE_CODE_TMPDIR', 'CLAUDE_CODE_MAX_RETRIES', 'CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK', 'BASH_ENV', 'MCP_TIMEOUT', 'anthropic_model',
  ])('does not set %s', (name) => {
    expect(providerEnv({ [name]: 'x' })).toEqual({ env: {}, ignored: [name] })
  })

  it('tells the gateway about keys and headers, and the CLI nothing of them', () => {
    expect(providerEnv({ ANTHROPIC_API_KEY: '', ANTHROPIC_AUTH_TOKEN: 'x', ANTHROPIC_CUSTOM_HEADERS: 'A: b' })).toEqual({ env: {}, ignored: [] })
  })
})

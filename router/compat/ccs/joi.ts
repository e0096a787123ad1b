/**
 * Validation failures in the words of Joi, which clients of ccs show to people and some of them match: `"prompt" is required`.
 *
 * The first failure is said, in the order of the fields, as Joi does it; unknown keys come behind those.
 */
import type { z } from 'zod'
import { Fault } from '../../../shared/faults.ts'

type Issue = z.core.$ZodIssue

/** For `newRouter`. */
export function joi(error: z.ZodError): Fault {
  const issue = error.issues[0]
  if (!issue) return new Fault('invalid_request')
  const [field, words] = said(issue)
  return new Fault('invalid_request', `"${field}" ${words}`.slice(0, 512), { extra: { field } })
}

function said(issue: Issue): [field: string, words: string] {
  const path = issue.path.map(String)
  if (issue.code === 'unrecognized_keys') return [label([...path, issue.keys[0] ?? '']), 'is not allowed']
  return [label(path), wordsOf(issue)]
}

/** `metadata.agent`, `prompts[0]`; the body itself is `value`. */
function label(path: readonly string[]): string {
  const text = path.map((key, i) => (/^\d+$/.test(key) ? `[${key}]` : i === 0 ? key : `.${key}`)).join('')
  return text === '' ? 'value' : text.slice(0, 128)
}

const TYPES: Record<string, string> = {
  string: 'must be a string',
  number: 'must be a number',
  int: 'must be an integer',
  boolean: 'must be a boolean',
  array: 'must be an array',
  object: 'must be of type object',
  record: 'must be of type object',
}

function wordsOf(issue: Issue): string {
  if (issue.code === 'invalid_type') {
    // What came is in its message and nowhere else.
    if (issue.message.endsWith('received undefined')) return 'is required'
    return TYPES[issue.expected] ?? `must be of type ${issue.expected}`
  }
  if (issue.code === 'too_small') {
    if (issue.origin === 'string') return issue.minimum === 1 ? 'is not allowed to be empty' : `length must be at least ${issue.minimum} characters long`
    if (issue.origin === 'array') return `must contain at least ${issue.minimum} items`
    return issue.inclusive === false ? `must be greater than ${issue.minimum}` : `must be greater than or equal to ${issue.minimum}`
  }
  if (issue.code === 'too_big') {
    if (issue.origin === 'string') return `length must be less than or equal to ${issue.maximum} characters long`
    if (issue.origin === 'array') return `must contain less than or equal to ${issue.maximum} items`
    if (issue.origin === 'object') return `must have less than or equal to ${issue.maximum} keys`
    return issue.inclusive === false ? `must be less than ${issue.maximum}` : `must be less than or equal to ${issue.maximum}`
  }
  if (issue.code === 'invalid_value') return `must be one of [${issue.values.map(String).join(', ')}]`
  if (issue.code === 'invalid_union') return 'does not match any of the allowed types'
  // Of a record, whose path says which.
  if (issue.code === 'invalid_key') return 'is not allowed'
  return issue.code === 'invalid_format' && issue.format === 'url' ? 'must be a valid uri' : issue.message
}

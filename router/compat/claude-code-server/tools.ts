/** `allowedTools` as one string: rules with commas or spaces between them, and none within the brackets of a rule. */

/** Never throws; what is no rule comes out as it is, for whoever knows rules. */
export function toolRules(given: string): string[] {
  const rules: string[] = []
  let rule = ''
  let depth = 0
  for (const char of given) {
    if (char === '(') depth++
    if (char === ')') depth = Math.max(0, depth - 1)
    if (depth === 0 && /[\s,]/.test(char)) {
      if (rule !== '') rules.push(rule)
      rule = ''
    } else rule += char
  }
  return rule === '' ? rules : [...rules, rule]
}

/** Tool rules as the CLI took them: several in one word, between commas. Whether they are rules is for others to say. */

/** What is within the brackets of a rule belongs to it. */
export const rulesIn = (word: string): string[] =>
  word
    .split(/,(?![^(]*\))/)
    .map((rule) => rule.trim())
    .filter((rule) => rule !== '')

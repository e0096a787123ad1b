/** Whether this is `npm run test:long`: what `npm test` does some of, it does as much of as a night allows. */
export const LONG = process.env['RUNYARD_LONG'] === '1'

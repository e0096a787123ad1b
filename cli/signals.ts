/** SIGTERM and SIGINT: the first asks for an orderly end, the second one gets it at once. */
export function untilSignal(onForce: () => void = () => undefined): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let asked = false
    const handler = (signal: NodeJS.Signals) => {
      if (asked) {
        onForce()
        process.exit(signal === 'SIGINT' ? 130 : 143)
      }
      asked = true
      resolve(signal)
    }
    process.on('SIGTERM', handler)
    process.on('SIGINT', handler)
  })
}

/** The first time that this process is sent the signal. From the call on the signal does not end it. */
export function onceAsked(signal: NodeJS.Signals): Promise<void> {
  return new Promise((resolve) => process.on(signal, () => resolve()))
}

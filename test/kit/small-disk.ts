/** A disk that is full when the test says so: a tmpfs of a few megabytes, where this process may mount one. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface SmallDisk {
  readonly dir: string
  /** Takes all but about so many bytes of what is free. */
  fill(leaveBytes: number): void
  /** Gives back what `fill` took. */
  free(): void
  unmount(): void
}

export function smallDisk(megabytes: number): SmallDisk {
  const dir = mkdtempSync(join(tmpdir(), 'runyard-disk-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', dir], { stdio: 'ignore' })
  } catch (error) {
    rmdirSync(dir)
    throw error
  }
  const ballast = join(dir, 'ballast')
  return {
    dir,
    fill(leaveBytes) {
      const { bavail, bsize } = statfsSync(dir)
      writeFileSync(ballast, Buffer.alloc(Math.max(0, bavail * bsize - leaveBytes)))
    },
    free: () => rmSync(ballast, { force: true }),
    unmount() {
      execFileSync('umount', ['-l', dir], { stdio: 'ignore' })
      rmdirSync(dir)
    },
  }
}

/** Empty where tmpfs can be mounted; else why a test is skipped, to be put behind its name. */
export const noSmallDisk = ((): string => {
  try {
    smallDisk(1).unmount()
    return ''
  } catch {
    return ' (skipped: a tmpfs cannot be mounted here)'
  }
})()

/** The programmes there are. `hosts` compares the two hosts and belongs to no goal, so `all` leaves it out. */
import type { Programme } from '../programme.ts'
import { hosts } from './hosts.ts'
import { latency } from './latency.ts'
import { short } from './short.ts'
import { throughput } from './throughput.ts'

export const programmes: readonly Programme[] = [latency, throughput, short]

export const besides: readonly Programme[] = [hosts]

/** The programmes there are. `hosts` compares the two hosts and belongs to no goal, so `all` leaves it out. */
import type { Programme } from '../programme.ts'
import { concurrency } from './concurrency.ts'
import { hosts } from './hosts.ts'
import { idle } from './idle.ts'
import { latency } from './latency.ts'
import { neighbours } from './neighbours.ts'
import { short } from './short.ts'
import { stalled } from './stalled.ts'
import { throughput } from './throughput.ts'
import { warm } from './warm.ts'

export const programmes: readonly Programme[] = [latency, throughput, concurrency, idle, neighbours, stalled, short, warm]

export const besides: readonly Programme[] = [hosts]

/** The programmes there are. `hosts` compares the two hosts and belongs to no goal, so `all` leaves it out. */
import type { Programme } from '../programme.ts'
import { hosts } from './hosts.ts'
import { short } from './short.ts'

export const programmes: readonly Programme[] = [short]

export const besides: readonly Programme[] = [hosts]
